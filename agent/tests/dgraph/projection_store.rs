//! What stands in a real Dgraph around the projection.

// The schedule is the one that runs against the model too; it names these as that module does.
pub(crate) use honeygraph_agent::dgraph::projection::*;
#[path = "../../src/dgraph/projection/schedule.rs"]
mod schedule;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use honeygraph_agent::dgraph::client::{
    Answer, DgraphClient, DgraphSettings, Login, Node, Query, Reading, Value,
};
use honeygraph_chain::fork::BlockReference;
use honeygraph_chain::{ContentId, PathKey};
use libtest_mimic::Trial;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::Value as Json;

use self::cluster::NetworkNode;
use self::region::NETWORK_NODE;
use self::schedule::{Schedule, Witness, run, run_on_a_log_that_turns, schedules};
use self::schema::predicate as p;
use super::World;
use super::cluster::{Cluster, eventually, ready};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("every_step_is_written_once_whatever_fails", steps),
        world.own("many_open_one_dgraph_at_once", opening),
        world.own("a_cursor_stands_as_it_was_written", cursors),
        world.own("a_claim_keeps_others_off_until_it_is_used_up", claims),
        world.own("what_was_wiped_or_migrated_is_not_written_to", replaced),
        world.own("uids_are_leased_where_access_control_allows_it", access_control),
    ]
}

/// Schedules that are tried.
const SCHEDULES: usize = 12;

impl Witness for DgraphClient {
    async fn witness(&self, nodes: &[Uid], predicate: &str) -> (NetworkNode, Vec<Vec<String>>) {
        use std::fmt::Write as _;
        // One question is answered as of one moment.
        let mut text = format!("{{ node(func: uid({NETWORK_NODE})) {{ {NODE} }}");
        for (place, uid) in nodes.iter().enumerate() {
            write!(text, " n{place}(func: uid({uid})) {{ v: {predicate} }}").unwrap();
        }
        text.push('}');
        let query = Query::new(text);
        let answer = answer_of(&eventually(|| self.query(&query, Reading::Strict)).await);
        let node = serde_json::from_value(answer["node"][0].clone()).unwrap_or_default();
        let lists = (0..nodes.len()).map(|place| {
            let values = &answer[format!("n{place}")][0]["v"];
            serde_json::from_value(values.clone()).unwrap_or_default()
        });
        (node, lists.collect())
    }
}

/// What a cursor is read from.
const NODE: &str = "appliedBlock appliedHash appliedFrom stateBlock stateTo stateAfter";

fn answer_of(answer: &Answer) -> Json {
    answer.read().unwrap()
}

async fn started(program: &std::path::Path, directory: &std::path::Path) -> (Cluster, DgraphClient) {
    let cluster = Cluster::start(program, directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    // An alpha that says it is well may still refuse the first change of the schema.
    eventually(|| client.drop_all()).await;
    (cluster, client)
}

async fn opened(client: &DgraphClient, writer: &str) -> Result<ProjectionStore, ProjectionError> {
    let network = "spkcc".parse().unwrap();
    ProjectionStore::open(client.clone(), &network, &writer.parse().unwrap()).await
}

fn applied(number: u64) -> Cursor {
    Cursor {
        applied: Some(BlockReference {
            number: number.try_into().unwrap(),
            hash: ContentId::of(&number.to_be_bytes()),
        }),
        ..Cursor::NOTHING
    }
}

async fn steps(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = started(&program, &directory).await;
    run(&client, &Schedule::default()).await;
    eventually(|| client.drop_all()).await;
    run(&client, &Schedule::alone()).await;
    let mut random = TestRunner::default();
    for _ in 0..SCHEDULES {
        eventually(|| client.drop_all()).await;
        let schedule = schedules().new_tree(&mut random).unwrap().current();
        println!("{schedule:?}");
        run(&client, &schedule).await;
        eventually(|| client.drop_all()).await;
        run_on_a_log_that_turns(&client, &schedule).await;
    }
}

async fn opening(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = started(&program, &directory).await;
    let stores = join_all((0..4).map(|_| opened(&client, "w"))).await;
    let keys: BTreeSet<_> = stores
        .into_iter()
        .map(|store| store.unwrap().region().key().to_text())
        .collect();
    assert_eq!(keys.len(), 1);
    let other = "dlux".parse().unwrap();
    let error = ProjectionStore::open(client.clone(), &other, &"w".parse().unwrap())
        .await
        .unwrap_err();
    assert!(matches!(error, ProjectionError::OtherNetwork { .. }), "{error}");

    // What the schema says is what Dgraph understood.
    let answer = client
        .query(&Query::new("schema { type index upsert list }"), Reading::Strict)
        .await
        .unwrap();
    let answer = answer_of(&answer);
    let known = answer["schema"].as_array().unwrap();
    for (name, kind) in schema::MIGRATIONS.iter().flat_map(|to| to.declares) {
        let found = known
            .iter()
            .find(|found| found["predicate"] == *name)
            .unwrap_or_else(|| panic!("{name}"));
        assert_eq!(found["list"] == true, kind.starts_with('['), "{name}");
        assert_eq!(found["index"] == true, kind.contains("@index"), "{name}");
        assert_eq!(found["upsert"] == true, kind.contains("@upsert"), "{name}");
    }
}

async fn cursors(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = started(&program, &directory).await;
    let store = opened(&client, "w").await.unwrap();
    let at = |state| Cursor {
        state,
        ..applied(9_007_199_254_740_991)
    };
    let number = 28_559_401.try_into().unwrap();
    let replacing = |after| at(StateCursor::Replacing { to: number, after });
    let long = "x".repeat(30_000);
    let chain = [
        Cursor::NOTHING,
        applied(1),
        at(StateCursor::At(number)),
        replacing(None),
        replacing(Some(PathKey::root())),
        replacing(Some(
            PathKey::root().child("[\"a\"] \\ \u{0} \u{1f41d}").child(""),
        )),
        replacing(Some(PathKey::root().child(&long))),
        Cursor {
            state: StateCursor::At(number),
            ..Cursor::NOTHING
        },
        Cursor {
            from: Some(number),
            ..applied(9_007_199_254_740_991)
        },
        Cursor::NOTHING,
    ];
    for pair in chain.windows(2) {
        let step = |after: Cursor| {
            let store = store.clone();
            let before = pair[0].clone();
            async move { store.write(&before, &after, Mutation::new()).await.unwrap() }
        };
        assert_eq!(step(pair[1].clone()).await, StepOutcome::Won, "{pair:?}");
        assert_eq!(store.cursor().await.unwrap(), pair[1]);
        // From where it no longer stands nothing is written.
        assert_eq!(
            step(applied(7)).await,
            StepOutcome::Lost(pair[1].clone()),
            "{pair:?}"
        );
    }
}

async fn claims(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = started(&program, &directory).await;
    let one = opened(&client, "one").await.unwrap();
    let two = opened(&client, "two").await.unwrap();
    let claim = async |store: &ProjectionStore, at: &Cursor| {
        store.claim(at, 2, Duration::from_hours(1)).await.unwrap()
    };
    assert_eq!(claim(&one, &Cursor::NOTHING).await, ClaimOutcome::Granted);
    assert_eq!(
        claim(&one, &Cursor::NOTHING).await,
        ClaimOutcome::Granted,
        "again"
    );
    let held = claim(&two, &Cursor::NOTHING).await;
    assert!(
        matches!(&held, ClaimOutcome::Held { by, .. } if by == "one"),
        "{held:?}"
    );
    let step = one.write(&Cursor::NOTHING, &applied(2), Mutation::new()).await;
    assert_eq!(step, Ok(StepOutcome::Won));
    assert_eq!(
        claim(&two, &Cursor::NOTHING).await,
        ClaimOutcome::Moved(applied(2))
    );
    let two_applied = applied(2);
    let claims = [claim(&one, &two_applied), claim(&two, &two_applied)];
    let granted = join_all(claims)
        .await
        .into_iter()
        .filter(|outcome| *outcome == ClaimOutcome::Granted)
        .count();
    assert_eq!(granted, 1);

    let short = Duration::from_millis(50);
    let end = "end".parse().unwrap();
    let third = ProjectionStore::open(client.clone(), &"spkcc".parse().unwrap(), &end)
        .await
        .unwrap();
    let ClaimOutcome::Held { wait, .. } = third.claim(&applied(2), 1, short).await.unwrap() else {
        panic!("claimed for an hour")
    };
    tokio::time::sleep(wait).await;
    let again = third.claim(&applied(2), 1, short).await;
    assert_eq!(again, Ok(ClaimOutcome::Granted), "seen for long enough");
}

async fn replaced(program: PathBuf, directory: PathBuf) {
    let (_cluster, client) = started(&program, &directory).await;
    let store = opened(&client, "w").await.unwrap();
    let step = async || {
        let before = Cursor::NOTHING;
        store.write(&before, &applied(1), Mutation::new()).await
    };
    eventually(|| client.drop_all()).await;
    let error = step().await.unwrap_err();
    assert_eq!(error.policy(), ErrorPolicy::Reopen, "{error}");
    let other = opened(&client, "other").await.unwrap();
    let error = step().await.unwrap_err();
    assert_eq!(error.policy(), ErrorPolicy::Reopen, "{error}");
    assert_eq!(other.cursor().await, Ok(Cursor::NOTHING));

    let mut mutation = Mutation::new();
    let newer = i64::from(schema::VERSION) + 1;
    mutation.set(NETWORK_NODE, p::SCHEMA_VERSION, Value::Integer(newer));
    client.write(None, vec![mutation]).await.unwrap();
    for error in [
        other
            .write(&Cursor::NOTHING, &applied(1), Mutation::new())
            .await
            .unwrap_err(),
        opened(&client, "w").await.unwrap_err(),
    ] {
        assert!(matches!(error, ProjectionError::NewerSchema { .. }), "{error}");
    }
}

async fn access_control(program: PathBuf, directory: PathBuf) {
    let secret = directory.join("hmac");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let flag = format!("secret-file={}", secret.display());
    let flags = ["--acl", &flag, "--security", "whitelist=127.0.0.1"];
    let cluster = Cluster::start(&program, &directory, &flags);
    let client = |namespace| {
        let mut settings = DgraphSettings::new(vec![cluster.endpoint()]);
        settings.login = Some(Login {
            user: "groot".into(),
            password: "password".into(),
            namespace,
        });
        DgraphClient::new(settings).unwrap()
    };
    let root = client(0);
    ready(&root).await;
    // The first user is made some time after an alpha says that it is well.
    eventually(|| root.alter("honeygraph_test_name: string .")).await;
    let tenant = client(new_namespace(&cluster).await);
    eventually(|| tenant.alter("honeygraph_test_name: string .")).await;

    let error = opened(&tenant, "w").await.unwrap_err();
    assert!(matches!(error, ProjectionError::LeaseRefused { .. }), "{error}");
    opened(&root, "w").await.unwrap();
    let store = opened(&tenant, "w").await.unwrap();
    let step = store.write(&Cursor::NOTHING, &applied(1), Mutation::new()).await;
    assert_eq!(step, Ok(StepOutcome::Won));

    // Namespaces keep apart what is named alike.
    let store = opened(&root, "w").await.unwrap();
    assert_eq!(store.cursor().await, Ok(Cursor::NOTHING));

    // Each is cleared alone, by whoever may do so in it; what others keep there stays.
    let network = "spkcc".parse().unwrap();
    let writer = "w".parse().unwrap();
    let mut theirs = Mutation::new();
    theirs.set(NETWORK_NODE, "honeygraph_test_name", "theirs");
    for client in [&root, &tenant] {
        client.write(None, vec![theirs.clone()]).await.unwrap();
        let store = opened(client, "w").await.unwrap();
        let before = store.cursor().await.unwrap();
        let step = store.write(&before, &applied(2), Mutation::new()).await;
        assert_eq!(step, Ok(StepOutcome::Won));
    }
    for (cleared, other) in [(&tenant, &root), (&root, &tenant)] {
        clear(cleared, &network, &writer).await.unwrap();
        let store = opened(other, "w").await.unwrap();
        assert_eq!(store.cursor().await, Ok(applied(2)));
        let empty = opened(cleared, "w").await.unwrap();
        assert_eq!(empty.cursor().await, Ok(Cursor::NOTHING));
        let step = empty.write(&Cursor::NOTHING, &applied(2), Mutation::new()).await;
        assert_eq!(step, Ok(StepOutcome::Won));
        let query = Query::new(format!(
            "{{ q(func: uid({NETWORK_NODE})) {{ n: honeygraph_test_name }} }}"
        ));
        let answer = cleared.query(&query, Reading::Strict).await.unwrap();
        assert_eq!(answer_of(&answer)["q"][0]["n"], "theirs");
    }
    let again = client(0);
    again
        .query(&Query::new("schema {}"), Reading::Strict)
        .await
        .unwrap();

    // What Dgraph chooses lies beyond.
    let mut mutation = Mutation::new();
    mutation.set(Node::New("n".into()), "honeygraph_test_name", "x");
    let made = root.write(None, vec![mutation]).await.unwrap();
    assert!(made.uids.get("n").unwrap() > &NETWORK_NODE);
}

/// Makes a namespace, as its guardian of all does; tells its number.
async fn new_namespace(cluster: &Cluster) -> u64 {
    let http = reqwest::Client::new();
    let ask = async |token: &str, question: &str| -> Json {
        let answer = http
            .post(format!("http://{}/admin", cluster.alpha_http_address()))
            .header("X-Dgraph-AccessToken", token)
            .json(&serde_json::json!({ "query": question }))
            .send()
            .await
            .unwrap();
        answer.json().await.unwrap()
    };
    let login = "mutation { login(userId: \"groot\", password: \"password\", namespace: 0) { response { accessJWT } } }";
    let answer = ask("", login).await;
    let token = answer["data"]["login"]["response"]["accessJWT"]
        .as_str()
        .unwrap_or_else(|| panic!("{answer}"));
    let make = "mutation { addNamespace(input: { password: \"password\" }) { namespaceId } }";
    let answer = ask(token, make).await;
    answer["data"]["addNamespace"]["namespaceId"]
        .as_u64()
        .unwrap_or_else(|| panic!("{answer}"))
}
