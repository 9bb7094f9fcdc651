//! The definitions that an apiserver takes.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;

use crate::schema;

/// Group of the resources.
pub const GROUP: &str = "honeygraph.io";

/// Version of the resources.
pub const VERSION: &str = "v1alpha1";

/// Both definitions.
pub fn definitions() -> [CustomResourceDefinition; 2] {
    [honeygraph_node(), checkpoint()]
}

/// The definition of [`HoneygraphNode`](crate::HoneygraphNode).
pub fn honeygraph_node() -> CustomResourceDefinition {
    tidied(crate::HoneygraphNode::crd())
}

/// The definition of [`Checkpoint`](crate::Checkpoint).
pub fn checkpoint() -> CustomResourceDefinition {
    tidied(crate::Checkpoint::crd())
}

/// A definition as YAML.
///
/// # Errors
///
/// Where the definition has something that YAML cannot say, which a derived one has not.
pub fn yaml(definition: &CustomResourceDefinition) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(definition)
}

/// Every version's schema as an apiserver takes it as it is meant.
fn tidied(mut definition: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut definition.spec.versions {
        let Some(validation) = &mut version.schema else {
            continue;
        };
        let Some(derived) = &validation.open_api_v3_schema else {
            continue;
        };
        let tidied = serde_json::to_value(derived).and_then(|mut value| {
            schema::tidy(&mut value);
            serde_json::from_value(value)
        });
        match tidied {
            Ok(tidied) => validation.open_api_v3_schema = Some(tidied),
            Err(error) => unreachable!("a schema is a schema without its nulls: {error}"),
        }
    }
    definition
}
