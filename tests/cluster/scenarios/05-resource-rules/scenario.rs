//! The API server takes our resources and runs their rules: each with good and bad objects, the cases of
//! `crds/tests/data`, and the samples of `manifests/samples`.

#[path = "../../../../crds/tests/cases/mod.rs"]
mod cases;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::Context;
use serde_json::Value;

use super::stage::Stage;
use super::{Needs, Scenario};
use cases::{Case, RefusedBy, Sample, Suite};
use honeygraph_test_cluster::Kubectl;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "05-resource-rules",
    needs: Needs::Controllers,
    labels: &[],
    run,
};

/// Our definitions, of this checkout.
const DEFINITIONS: [&str; 2] = ["honeygraphnode.yaml", "checkpoint.yaml"];

/// Questions to the API server at once: most of their time is the start of kubectl.
const AT_ONCE: usize = 4;

fn run(stage: &mut Stage) -> anyhow::Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    let suites = cases::suites(&folder.join("tests/data"));
    let already = stage.run(&["get", "customresourcedefinitions", "--output=name"])?;
    anyhow::ensure!(
        !already.contains(".honeygraph.io"),
        "resources of honeygraph.io are installed already; they are not replaced:\n{already}"
    );
    let namespace = stage.create_namespace()?;
    let outcome = check(stage, &folder, &namespace, &suites);
    for file in DEFINITIONS {
        let file = folder.join(file).display().to_string();
        let removed = stage.run(&[
            "delete",
            "--filename",
            &file,
            "--ignore-not-found",
            "--timeout=120s",
        ]);
        if outcome.is_ok() {
            removed?;
        }
    }
    outcome
}

fn check(stage: &Stage, folder: &Path, namespace: &str, suites: &[Suite]) -> anyhow::Result<()> {
    for file in DEFINITIONS {
        let path = folder.join(file);
        let manifest = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        stage.step(&format!("apply crds/{file}"), || {
            stage.kubectl()?.apply(&manifest)
        })?;
    }
    stage.step("the API server serves them", || {
        stage.run(&[
            "wait",
            "--for=condition=Established",
            "crd",
            "--all",
            "--timeout=120s",
        ])
    })?;
    for suite in suites {
        stage.step(&format!("{}: {} rules", suite.kind, suite.cases.len()), || {
            all_cases(stage.kubectl()?, namespace, suite)
        })?;
    }
    let samples = cases::manifests(&folder.join("../manifests/samples"));
    stage.step(&format!("{} samples", samples.len()), || {
        for (file, object) in samples {
            let object = Sample { old: None, object };
            ask(stage.kubectl()?, &place(namespace, "HoneygraphNode"), &object).context(file)?;
        }
        Ok(())
    })
}

/// Where the objects of a kind are.
fn place(namespace: &str, kind: &str) -> String {
    let kind = kind.to_lowercase();
    format!("/apis/honeygraph.io/v1alpha1/namespaces/{namespace}/{kind}s")
}

/// Tries every case of a kind; an error names all that are not as they should be.
fn all_cases(kubectl: &Kubectl, namespace: &str, suite: &Suite) -> anyhow::Result<()> {
    let place = place(namespace, &suite.kind);
    let questions: Vec<_> = suite
        .cases
        .iter()
        .flat_map(|case| {
            let good = case
                .good(suite)
                .into_iter()
                .map(move |sample| (case, sample, true));
            let bad = case
                .bad(suite)
                .into_iter()
                .map(move |sample| (case, sample, false));
            good.chain(bad)
        })
        .collect();
    let next = AtomicUsize::new(0);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let askers: Vec<_> = (0..AT_ONCE)
            .map(|_| {
                scope.spawn(|| {
                    let mut wrong = Vec::new();
                    while let Some((case, sample, is_good)) =
                        questions.get(next.fetch_add(1, Ordering::Relaxed))
                    {
                        let answer = ask(kubectl, &place, sample);
                        wrong.extend(judge(case, sample, *is_good, &answer));
                    }
                    wrong
                })
            })
            .collect();
        askers
            .into_iter()
            .flat_map(|asker| {
                asker
                    .join()
                    .unwrap_or_else(|_| vec!["a check panicked".to_owned()])
            })
            .collect()
    });
    anyhow::ensure!(
        wrong.is_empty(),
        "{} of {} objects:\n{}",
        wrong.len(),
        questions.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// Ask only, and refuse unknown fields.
const TRY: &str = "dryRun=All&fieldValidation=Strict";

/// How many objects were created to be changed.
static CHANGED: AtomicUsize = AtomicUsize::new(0);

/// What the API server says to an object, or to a change of one; it keeps neither.
fn ask(kubectl: &Kubectl, place: &str, sample: &Sample) -> anyhow::Result<String> {
    let Some(old) = &sample.old else {
        return kubectl.raw("create", &format!("{place}?{TRY}"), &sample.object);
    };
    // It is really there: two of one name would meet.
    let name = format!("changed-{}", CHANGED.fetch_add(1, Ordering::Relaxed));
    let named = |object: &Value| {
        let mut object = object.clone();
        object["metadata"]["name"] = name.as_str().into();
        object
    };
    let created = kubectl
        .raw("create", place, &named(old))
        .context("the object before the change")?;
    let created: Value = serde_json::from_str(&created)?;
    let mut changed = named(&sample.object);
    changed["metadata"]["resourceVersion"] = created["metadata"]["resourceVersion"].clone();
    kubectl.raw("replace", &format!("{place}/{name}?{TRY}"), &changed)
}

/// What is wrong with an answer.
fn judge(case: &Case, sample: &Sample, is_good: bool, answer: &anyhow::Result<String>) -> Option<String> {
    match answer {
        Ok(_) if is_good => None,
        Err(error) if !is_good && refuses(case, &error.to_string()) => None,
        Ok(_) => Some(format!("taken, but should be refused\n  {case}\n  {sample}")),
        Err(error) if is_good => Some(format!(
            "refused, but should be taken\n  {case}\n  {sample}\n  {error:#}"
        )),
        Err(error) => Some(format!(
            "refused in other words\n  {case}\n  {sample}\n  {error:#}"
        )),
    }
}

/// Whether a refusal is that of the case: its field, and the words of its rule.
fn refuses(case: &Case, refusal: &str) -> bool {
    let words = match case.refused_by {
        RefusedBy::Rule => format!(": {}", case.message),
        RefusedBy::Schema | RefusedBy::Server => case.message.clone(),
    };
    refusal.contains(&case.field) && refusal.contains(&words)
}
