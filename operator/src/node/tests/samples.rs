//! The samples of the install are nodes that can be built as they are.

use std::path::Path;

use super::*;

#[test]
fn samples_of_the_install_are_built() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../manifests/samples");
    let mut files = 0;
    for entry in std::fs::read_dir(folder).expect("samples") {
        let path = entry.expect("a sample").path();
        let text = std::fs::read_to_string(&path).expect("a sample");
        let mut nodes: Vec<HoneygraphNode> = serde_saphyr::from_multiple(&text).expect("nodes");
        for node in &mut nodes {
            node.metadata.namespace = Some("default".to_owned());
        }
        for node in &nodes {
            let mut input = with_secret(
                alone(node.clone()),
                "honeycombs",
                &[("honeycomb-1", "0123456789abcdef")],
            );
            let owner = node.spec.dgraph.cluster_ref.as_ref();
            let owner = owner.and_then(|cluster| cluster.node_ref.as_ref());
            input.dgraph_owner = owner.and_then(|owner| {
                let named = |node: &&HoneygraphNode| node.name_any() == owner.name;
                nodes.iter().find(named).cloned().map(Arc::new)
            });
            let others = nodes.iter().filter(|other| other.name_any() != node.name_any());
            input.neighbours = others.cloned().map(Arc::new).collect();
            let built = built(&input).unwrap_or_else(|invalid| panic!("{}: {invalid}", path.display()));
            assert_eq!(
                built.agents.len(),
                usize::try_from(node.spec.agent.replicas).unwrap()
            );
        }
        files += 1;
    }
    assert!(files > 0);
}
