//! Questions of other people on a real Dgraph: they read one snapshot, and whatever they say they write nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use honeygraph_agent::dgraph::client::{
    DgraphClient, DgraphError, DgraphSettings, Login, Mutation, Node, Query, Reading, Uid,
};
use honeygraph_agent::dgraph::pass_through::{PassThrough, PassThroughError, PassThroughLimits, Passed};
use honeygraph_agent::dgraph::status::ProjectionStatus;
use honeygraph_chain::ContentId;
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};

use super::World;
use super::cluster::{Cluster, eventually, ready};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("a_question_handed_on_writes_nothing", nothing_is_written),
        world.own("an_answer_handed_on_is_of_the_block_it_names", one_snapshot),
        world.own("questions_are_handed_on_with_a_login", with_login),
    ]
}

const SCHEMA: &str = "appliedBlock: int .\nappliedHash: string .\nname: string @index(exact) .";

const LIMITS: PassThroughLimits = PassThroughLimits {
    body_bytes: 10_000,
    answer_bytes: 20_000,
    timeout: Duration::from_secs(20),
    concurrent: 4,
};

fn hash(block: i64) -> String {
    ContentId::of(block.to_string().as_bytes()).to_string()
}

/// A cursor at a block, and a name that says the same.
fn step(cursor: Uid, block: i64) -> Vec<Mutation> {
    let mut mutation = Mutation::new();
    mutation.set(cursor, "appliedBlock", block);
    mutation.set(cursor, "appliedHash", hash(block));
    mutation.set(cursor, "name", block.to_string());
    vec![mutation]
}

/// Hands questions on to a cluster whose cursor stands at block 5.
async fn pass_through(client: &DgraphClient, settings: DgraphSettings) -> (PassThrough, Uid) {
    eventually(|| client.alter(SCHEMA)).await;
    let mut mutation = Mutation::new();
    mutation.set(Node::New("c".into()), "name", "new");
    let made = client.write(None, vec![mutation]).await.unwrap();
    let cursor = *made.uids.get("c").unwrap();
    client.write(None, step(cursor, 5)).await.unwrap();
    let (projection, status) = ProjectionStatus::channel();
    let query = Query::new(format!(
        "{{ cursor(func: uid({cursor})) {{ appliedBlock appliedHash }} }}"
    ));
    projection.send_modify(|status| status.cursor_query = Some(query));
    (PassThrough::new(settings, LIMITS, status).unwrap(), cursor)
}

async fn ask(pass_through: &PassThrough, text: &str) -> Result<Passed, PassThroughError> {
    pass_through.ask(text.to_owned(), BTreeMap::new()).await
}

fn data(passed: &Passed) -> Json {
    serde_json::from_str(passed.data.get()).unwrap()
}

/// Everything that stands in the cluster, and its schema.
async fn everything(client: &DgraphClient) -> Json {
    let all = Query::new("{ q(func: has(name)) { uid expand(_all_) name appliedBlock appliedHash } } ");
    let schema = Query::new("schema {}");
    let all: Json = client.query(&all, Reading::Strict).await.unwrap().read().unwrap();
    let schema: Json = client
        .query(&schema, Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap();
    json!([all, schema])
}

async fn nothing_is_written(program: PathBuf, directory: PathBuf) {
    let cluster = Cluster::start(&program, &directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    let settings = DgraphSettings::new(vec![cluster.endpoint()]);
    let (pass_through, cursor) = pass_through(&client, settings).await;
    let before = everything(&client).await;
    for text in [
        "upsert { query { v as var(func: has(name)) } mutation { delete { uid(v) * * . } } }".to_owned(),
        format!("upsert {{ mutation {{ set {{ <{cursor}> <name> \"x\" . }} }} }}"),
        format!("mutation {{ set {{ <{cursor}> <name> \"x\" . }} }}"),
        "mutation { schema { other: string . } }".to_owned(),
        format!("{{ set {{ <{cursor}> <name> \"x\" . }} }}"),
        format!("{{ delete {{ <{cursor}> * * . }} }}"),
        format!("{{ \"set\": [{{\"uid\": \"{cursor}\", \"name\": \"x\"}}] }}"),
        format!("{{ q(func: uid({cursor})) {{ name }} }} mutation {{ delete {{ <{cursor}> * * . }} }}"),
        format!(
            "{{ q(func: uid({cursor})) {{ name }} }} upsert {{ query {{ v as var(func: uid({cursor})) }} \
             mutation {{ delete {{ uid(v) * * . }} }} }}"
        ),
        "other: string @index(exact) .".to_owned(),
        "type Other { name }".to_owned(),
        "{ \"drop_all\": true }".to_owned(),
        "{\"drop_op\": \"DATA\"}".to_owned(),
    ] {
        let error = ask(&pass_through, &text).await.unwrap_err();
        assert!(
            matches!(error, PassThroughError::Dgraph(DgraphError::Refused { .. })),
            "{text}: {error}"
        );
        assert_eq!(everything(&client).await, before, "{text}");
    }
    // While questions are answered.
    let passed = ask(&pass_through, "{ q(func: eq(name, \"5\")) { name } }")
        .await
        .unwrap();
    assert_eq!(data(&passed), json!({"q": [{"name": "5"}]}));
    assert_eq!(passed.applied.number.get(), 5);
    assert_eq!(passed.applied.hash.to_string(), hash(5));
    let named = BTreeMap::from([("$n".to_owned(), "5".to_owned())]);
    let text = "query q($n: string) { q(func: eq(name, $n)) { name } }";
    let passed = pass_through.ask(text.to_owned(), named).await.unwrap();
    assert_eq!(data(&passed), json!({"q": [{"name": "5"}]}));
    let passed = ask(&pass_through, "schema(pred: [name]) { type }").await.unwrap();
    assert_eq!(data(&passed)["schema"][0]["predicate"], "name");

    let mut large = Mutation::new();
    large.set(Node::New("l".into()), "name", "x".repeat(30_000));
    client.write(None, vec![large]).await.unwrap();
    let error = ask(&pass_through, "{ q(func: has(name)) { name } }")
        .await
        .unwrap_err();
    assert!(
        matches!(
            error,
            PassThroughError::Dgraph(DgraphError::AnswerTooLarge { .. })
        ),
        "{error}"
    );
}

async fn one_snapshot(program: PathBuf, directory: PathBuf) {
    let mut cluster = Cluster::start(&program, &directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    let settings = DgraphSettings::new(vec![cluster.endpoint()]);
    let (pass_through, cursor) = pass_through(&client, settings).await;
    let writing = async {
        for block in 6..300 {
            client.write(None, step(cursor, block)).await.unwrap();
        }
    };
    let asking = async {
        let mut seen = std::collections::BTreeSet::new();
        let text = format!("{{ q(func: uid({cursor})) {{ name }} }}");
        while seen.last() != Some(&299) {
            let passed = ask(&pass_through, &text).await.unwrap();
            let block = passed.applied.number.get();
            assert_eq!(data(&passed)["q"][0]["name"], block.to_string());
            seen.insert(block);
        }
        assert!(seen.len() > 5, "{seen:?}");
    };
    futures_util::future::join(writing, asking).await;

    cluster.kill_alpha();
    let error = ask(&pass_through, "{ q(func: has(name)) { name } }")
        .await
        .unwrap_err();
    assert!(
        matches!(&error, PassThroughError::Dgraph(error) if error.is_of_endpoint()),
        "{error}"
    );
    cluster.start_alpha();
    let passed = eventually(
        async || match ask(&pass_through, "{ q(func: has(name)) { name } }").await {
            Err(PassThroughError::Dgraph(error)) => Err(error),
            answered => Ok(answered),
        },
    )
    .await;
    assert_eq!(passed.unwrap().applied.number.get(), 299);
}

async fn with_login(program: PathBuf, directory: PathBuf) {
    let secret = directory.join("hmac");
    std::fs::write(&secret, "0123456789abcdef0123456789abcdef").unwrap();
    let flag = format!("secret-file={};", secret.display());
    let flags = ["--acl", &flag, "--security", "whitelist=127.0.0.1"];
    let cluster = Cluster::start(&program, &directory, &flags);
    let mut settings = DgraphSettings::new(vec![cluster.endpoint()]);
    settings.login = Some(Login {
        user: "groot".into(),
        password: "password".into(),
        namespace: 0,
    });
    let client = DgraphClient::new(settings.clone()).unwrap();
    ready(&client).await;
    // Where access control is on, a snapshot is bound to its namespace.
    let (pass_through, _) = pass_through(&client, settings).await;
    let passed = ask(&pass_through, "{ q(func: eq(name, \"5\")) { name } }")
        .await
        .unwrap();
    assert_eq!(data(&passed), json!({"q": [{"name": "5"}]}));
}
