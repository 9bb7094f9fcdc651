//! An API server that answers: objects are applied server-side, controllers work, and what changes something is in the
//! audit log.

use super::stage::Stage;
use super::{Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "01-api",
    needs: Needs::Controllers,
    labels: &[],
    run,
};

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    stage.step("the API server is ready", || {
        let answer = stage.kubectl()?.run(["get", "--raw", "/readyz"])?;
        anyhow::ensure!(answer.trim() == "ok", "/readyz says {answer}");
        Ok(())
    })?;
    let namespace = stage.create_namespace()?;
    stage.apply("configmap.yaml", include_str!("configmap.yaml"))?;
    stage.step("it says who owns which field", || {
        let managers = stage.run(&[
            "get",
            "configmap/greeting",
            "--show-managed-fields",
            "--output=jsonpath={.data.text} {.metadata.managedFields[*].manager} {.metadata.managedFields[*].operation}",
        ])?;
        anyhow::ensure!(managers == "hello honeygraph-test-cluster Apply", "{managers}");
        Ok(())
    })?;
    stage.step("another manager may not take the field", || {
        let refused = stage.run(&[
            "apply",
            "--server-side",
            "--field-manager=another",
            "--dry-run=server",
            "--filename",
            concat!(env!("CARGO_MANIFEST_DIR"), "/scenarios/01-api/conflict.yaml"),
        ]);
        match refused {
            Err(error)
                if error
                    .to_string()
                    .contains("conflict with \"honeygraph-test-cluster\"") =>
            {
                Ok(())
            }
            other => anyhow::bail!("{other:?}"),
        }
    })?;
    stage.eventually("a controller gives the namespace its service account", || {
        stage.run(&["get", "serviceaccount/default"])
    })?;
    stage.step("the audit log has the apply, and nothing that only reads", || {
        let Some(log) = stage.cluster()?.audit_log() else {
            return Ok(());
        };
        let text = std::fs::read_to_string(log)?;
        let mut applies = 0;
        for line in text.lines() {
            let event: serde_json::Value = serde_json::from_str(line)?;
            anyhow::ensure!(event["verb"] != "get" && event["verb"] != "watch", "{line}");
            let object = &event["objectRef"];
            let dry = event["requestURI"]
                .as_str()
                .unwrap_or_default()
                .contains("dryRun");
            if event["verb"] == "patch"
                && object["name"] == "greeting"
                && object["namespace"] == *namespace
                && !dry
            {
                applies += 1;
            }
        }
        anyhow::ensure!(applies == 1, "{applies} requests that patch the ConfigMap");
        Ok(())
    })
}
