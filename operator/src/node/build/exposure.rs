//! How a node is reached from outside its cluster: an Ingress, or an `HTTPRoute` of the Gateway API.

use honeygraph_crds::{HttpRoute, Ingress};
use k8s_openapi::api::networking::v1::{
    HTTPIngressPath, HTTPIngressRuleValue, IngressBackend, IngressRule, IngressServiceBackend, IngressSpec,
    IngressTLS, ServiceBackendPort,
};
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::json;

use crate::names::{NodeIdentity, Role};

/// An Ingress to a port of a Service, of the same name as the Service.
pub(super) fn ingress(
    identity: &NodeIdentity,
    service: &str,
    port: &str,
    wanted: &Ingress,
) -> k8s_openapi::api::networking::v1::Ingress {
    let mut metadata = identity.metadata(service.to_owned(), identity.role_labels(Role::Agent));
    metadata.annotations = (!wanted.annotations.is_empty()).then(|| wanted.annotations.clone());
    let path = HTTPIngressPath {
        path: Some("/".to_owned()),
        path_type: "Prefix".to_owned(),
        backend: IngressBackend {
            service: Some(IngressServiceBackend {
                name: service.to_owned(),
                port: Some(ServiceBackendPort {
                    name: Some(port.to_owned()),
                    number: None,
                }),
            }),
            resource: None,
        },
    };
    k8s_openapi::api::networking::v1::Ingress {
        metadata,
        spec: Some(IngressSpec {
            ingress_class_name: wanted.class_name.clone(),
            tls: wanted.tls_secret_name.as_ref().map(|secret| {
                vec![IngressTLS {
                    hosts: Some(vec![wanted.host.clone()]),
                    secret_name: Some(secret.clone()),
                }]
            }),
            rules: Some(vec![IngressRule {
                host: Some(wanted.host.clone()),
                http: Some(HTTPIngressRuleValue { paths: vec![path] }),
            }]),
            default_backend: None,
        }),
        status: None,
    }
}

/// The kind `HTTPRoute`.
pub fn http_route_kind() -> ApiResource {
    ApiResource::from_gvk_with_plural(
        &GroupVersionKind::gvk("gateway.networking.k8s.io", "v1", "HTTPRoute"),
        "httproutes",
    )
}

/// An `HTTPRoute` to a port of a Service, of the same name as the Service.
pub(super) fn http_route(
    identity: &NodeIdentity,
    service: &str,
    port: u16,
    wanted: &HttpRoute,
) -> DynamicObject {
    let gateways: Vec<_> = wanted
        .gateways
        .iter()
        .map(|gateway| {
            let mut parent = json!({"name": gateway.name});
            if let Some(namespace) = &gateway.namespace {
                parent["namespace"] = json!(namespace);
            }
            if let Some(section) = &gateway.section_name {
                parent["sectionName"] = json!(section);
            }
            parent
        })
        .collect();
    let mut route = DynamicObject::new(service, &http_route_kind()).data(json!({"spec": {
        "parentRefs": gateways,
        "hostnames": wanted.hostnames,
        "rules": [{"backendRefs": [{"name": service, "port": port}]}],
    }}));
    route.metadata = identity.metadata(service.to_owned(), identity.role_labels(Role::Agent));
    route
}
