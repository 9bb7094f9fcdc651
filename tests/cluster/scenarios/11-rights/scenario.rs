//! What the operator and people may do, and what they may not, by trying.

use super::installation::{NAMESPACE, install};
use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "11-rights",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

/// A node that changes nothing: only whether it would be taken is asked.
const NODE: &str = r"
apiVersion: honeygraph.io/v1alpha1
kind: HoneygraphNode
metadata: {name: tried}
spec: {network: dlux, region: europe, suspend: true}
";

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    install(stage)?;
    let namespace = stage.create_namespace()?;
    let operator = format!("system:serviceaccount:{NAMESPACE}:honeygraph-operator");
    for denied in [
        &["delete", "nodes", "europe", "--dry-run=server"][..],
        &["delete", "namespaces", "default", "--dry-run=server"],
        &["get", "clusterroles"],
        &[
            "create",
            "clusterrolebinding",
            "mine",
            "--clusterrole=cluster-admin",
            "--user=me",
            "--dry-run=server",
        ],
        &["delete", "honeygraphnodes", "any", "--dry-run=server"],
    ] {
        is_denied(stage, &operator, denied)?;
    }
    stage.step("the operator may look at nodes", || {
        stage.run(&["get", "honeygraphnodes", "--as", &operator])
    })?;

    for (person, role) in [("viewer", "view"), ("editor", "edit")] {
        stage.step(&format!("{person} gets the role {role} of the namespace"), || {
            let (role, user) = (format!("--clusterrole={role}"), format!("--user={person}"));
            stage.run(&["create", "rolebinding", person, &role, &user])
        })?;
        // The controller adds our roles to the built-in ones.
        stage.eventually(&format!("{person} may look at nodes"), || {
            stage.run(&["get", "honeygraphnodes", "--as", person])
        })?;
    }
    stage.step("editor may make one, viewer may not", || {
        let kubectl = stage.kubectl()?;
        kubectl.try_as("editor", &namespace, NODE)?;
        let refused = kubectl.try_as("viewer", &namespace, NODE);
        anyhow::ensure!(
            refused
                .as_ref()
                .is_err_and(|error| error.to_string().contains("forbidden")),
            "it was taken: {refused:?}"
        );
        Ok(())
    })?;
    for denied in [
        &["delete", "honeygraphnodes", "any", "--dry-run=server"][..],
        &["get", "secrets"],
    ] {
        is_denied(stage, "viewer", denied)?;
    }
    is_denied(
        stage,
        "editor",
        &["get", "honeygraphnodes", "--namespace=default"],
    )
}

fn is_denied(stage: &Stage, who: &str, arguments: &[&str]) -> anyhow::Result<()> {
    stage.step(&format!("{who} may not {}", arguments.join(" ")), || {
        let answer = stage.run(&[arguments, &["--as", who]].concat());
        anyhow::ensure!(
            answer
                .as_ref()
                .is_err_and(|error| error.to_string().contains("orbidden")),
            "the answer is {answer:?}"
        );
        Ok(())
    })
}
