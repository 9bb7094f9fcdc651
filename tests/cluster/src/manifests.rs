//! `manifests/`, the install for `kubectl apply -k`: what the chart makes, rendered by Helm.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::parts::run;
use crate::tools::{ToolSet, kubectl};

/// What the rendered file begins with.
const HEADER: &str = "\
# What charts/honeygraph makes with its own values, in the namespace honeygraph-system. Made by Helm: change the chart, and
# run `cargo cluster manifests --write`.
";

/// Labels that say that Helm manages an object. What kubectl applies is not Helm's.
const LABELS_OF_HELM: [&str; 2] = ["app.kubernetes.io/managed-by: ", "helm.sh/chart: "];

/// Compares `manifests/` with the chart and lets kubectl build it. Returns the number of its objects.
///
/// # Errors
/// It is not what the chart makes, or kubectl refuses it.
pub fn check_manifests() -> anyhow::Result<usize> {
    let file = repository().join("manifests/operator.yaml");
    let committed = fs::read_to_string(&file).unwrap_or_default();
    anyhow::ensure!(
        committed == operator()?,
        "manifests/operator.yaml is not what charts/honeygraph makes; run `cargo cluster manifests --write`"
    );
    let built = run(Command::new(kubectl()?)
        .arg("kustomize")
        .arg(repository().join("manifests")))?;
    Ok(built.lines().filter(|line| line.starts_with("kind: ")).count())
}

/// Writes what the chart makes to `manifests/`.
///
/// # Errors
/// Helm refuses the chart, or the file cannot be written.
pub fn write_manifests() -> anyhow::Result<()> {
    let file = repository().join("manifests/operator.yaml");
    fs::write(&file, operator()?).with_context(|| file.display().to_string())
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The chart's objects but the definitions of resources, which stand in a folder of their own.
fn operator() -> anyhow::Result<String> {
    let helm = ToolSet::Helm.build()?.join("helm");
    let rendered = run(Command::new(helm)
        .args(["template", "honeygraph"])
        .arg(repository().join("charts/honeygraph"))
        .args(["--namespace", "honeygraph-system"])
        .args(["--set", "crds.install=false", "--skip-tests"]))?;
    Ok(without_helm(&rendered))
}

/// What Helm rendered, without what tells of Helm.
fn without_helm(rendered: &str) -> String {
    let lines = rendered.lines().filter(|line| {
        let words = line.trim_start();
        !words.is_empty()
            && !words.starts_with("# Source: ")
            && !LABELS_OF_HELM.iter().any(|label| words.starts_with(label))
    });
    lines.fold(HEADER.to_owned(), |made, line| made + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_tells_of_helm() {
        let rendered = "\
---
# Source: honeygraph/templates/serviceaccount.yaml
apiVersion: v1
kind: ServiceAccount
metadata:
  labels:
    app.kubernetes.io/name: honeygraph-operator
    app.kubernetes.io/managed-by: Helm
    helm.sh/chart: honeygraph-0.1.0
# The pod asks for its token itself.
automountServiceAccountToken: false

";
        let expected = "\
---
apiVersion: v1
kind: ServiceAccount
metadata:
  labels:
    app.kubernetes.io/name: honeygraph-operator
# The pod asks for its token itself.
automountServiceAccountToken: false
";
        assert_eq!(without_helm(rendered), format!("{HEADER}{expected}"));
    }
}
