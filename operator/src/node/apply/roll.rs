//! Which `StatefulSets` of a role are changed now: one at a time, with health between.

use k8s_openapi::api::apps::v1::StatefulSet;
use kube::ResourceExt;

use crate::node::live::named;

/// Whether the only pod of a member runs what its `StatefulSet` says, and is ready.
pub fn is_ready(set: &StatefulSet) -> bool {
    set.status.as_ref().is_some_and(|status| {
        status.observed_generation == set.metadata.generation
            && status.ready_replicas == Some(1)
            && status.update_revision == status.current_revision
    })
}

/// Those that are written now. What is not there or not ready is written at once, since nobody is served by it and a
/// correction must get through; what is ready only where all others are, one in each reconcile.
pub fn turn<'a>(
    wanted: &'a [StatefulSet],
    live: &[StatefulSet],
    outdated: impl Fn(&StatefulSet) -> bool,
) -> Vec<&'a StatefulSet> {
    let serves = |set: &StatefulSet| named(live, &set.name_any()).is_some_and(is_ready);
    let (serving, idle): (Vec<_>, Vec<_>) = wanted.iter().partition(|set| serves(set));
    if idle.is_empty() {
        serving
            .into_iter()
            .find(|set| outdated(set))
            .into_iter()
            .collect()
    } else {
        idle.into_iter().filter(|set| outdated(set)).collect()
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::StatefulSetStatus;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

    use super::*;

    fn set(name: &str, ready: bool) -> StatefulSet {
        StatefulSet {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                generation: Some(2),
                ..ObjectMeta::default()
            },
            status: Some(StatefulSetStatus {
                observed_generation: Some(2),
                ready_replicas: ready.then_some(1),
                ..StatefulSetStatus::default()
            }),
            ..StatefulSet::default()
        }
    }

    fn written(live: &[StatefulSet], outdated: &[&str]) -> Vec<String> {
        let wanted = [set("a", false), set("b", false), set("c", false)];
        let is_outdated = |set: &StatefulSet| outdated.contains(&set.name_any().as_str());
        turn(&wanted, live, is_outdated)
            .into_iter()
            .map(ResourceExt::name_any)
            .collect()
    }

    #[test]
    fn of_those_that_serve_one_is_changed_at_a_time() {
        let live = [set("a", true), set("b", true), set("c", true)];
        assert_eq!(written(&live, &["a", "b", "c"]), ["a"]);
        assert_eq!(written(&live, &["b", "c"]), ["b"]);
        let changing = [set("a", false), set("b", true), set("c", true)];
        assert_eq!(written(&changing, &["b", "c"]), Vec::<String>::new());
    }

    #[test]
    fn what_is_missing_or_broken_is_written_at_once() {
        assert_eq!(written(&[], &["a", "b", "c"]), ["a", "b", "c"]);
        let broken = [set("a", true), set("b", false), set("c", false)];
        assert_eq!(written(&broken, &["a", "b", "c"]), ["b", "c"]);
    }

    #[test]
    fn a_status_of_before_the_change_is_not_believed() {
        let mut changed = set("a", true);
        changed.metadata.generation = Some(3);
        assert!(!is_ready(&changed));
        let mut restarting = set("a", true);
        if let Some(status) = &mut restarting.status {
            status.current_revision = Some("1".to_owned());
            status.update_revision = Some("2".to_owned());
        }
        assert!(!is_ready(&restarting));
        assert!(!is_ready(&StatefulSet::default()));
    }
}
