//! A pod of the harness's own image runs; logs and exec work; DNS resolves a Service, and its traffic arrives.

use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "03-pod",
    needs: Needs::Nodes,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let namespace = stage.create_namespace()?;
    stage.apply("server.yaml", include_str!("server.yaml"))?;
    stage.step("the pod is ready", || {
        stage.run(&["wait", "--for=condition=Ready", "pod/server", "--timeout=120s"])
    })?;
    stage.eventually("its log can be read", || {
        let log = stage.run(&["logs", "server"])?;
        anyhow::ensure!(log.trim() == "serving", "the log says {log}");
        Ok(())
    })?;
    stage.step("a command runs in it, without rights", || {
        let user = stage.run(&["exec", "server", "--", "id", "-u"])?;
        anyhow::ensure!(user.trim() == "65532", "it runs as user {user}");
        Ok(())
    })?;
    let name = format!("server.{namespace}.svc.cluster.local");
    stage.eventually("DNS knows the Service", || {
        let address = stage.run(&["get", "service/server", "--output=jsonpath={.spec.clusterIP}"])?;
        let answer = stage.run(&["exec", "server", "--", "nslookup", &name])?;
        anyhow::ensure!(answer.contains(&address), "{address} is not in\n{answer}");
        Ok(())
    })?;
    stage.eventually(
        "the Service leads to the pod, from itself and from another node",
        || {
            for client in ["server", "client"] {
                let answer = stage.run(&["exec", client, "--", "nc", "-w", "5", "server", "8000"])?;
                anyhow::ensure!(answer.trim() == "hello from server", "{client} got {answer}");
            }
            Ok(())
        },
    )?;
    stage.step("a pod reaches the API server by its Service", || {
        stage.run(&[
            "exec",
            "client",
            "--",
            "nc",
            "-w",
            "5",
            "kubernetes.default",
            "443",
        ])
    })?;
    stage.step("a pod that is deleted ends", || {
        stage.run(&["delete", "pod/client", "--wait", "--timeout=120s"])
    })?;
    Ok(())
}
