//! Schema, queries, writes, transactions and uids on a real Dgraph.

use std::sync::Arc;

use honeygraph_agent::dgraph::client::{
    DgraphClient, DgraphError, MINIMUM_VERSION, Mutation, Node, Query, Reading, Uid, Value,
};
use libtest_mimic::Trial;
use serde_json::{Value as Json, json};

use super::{World, predicate};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.shared("an_alpha_tells_a_version_that_is_new_enough", version),
        world.shared("values_come_back_as_they_were_written", values),
        world.shared("a_value_is_never_taken_for_syntax", syntax),
        world.shared("a_text_of_50_megabytes_is_kept", large),
        world.shared("what_is_deleted_is_gone", deletion),
        world.shared("of_two_transactions_that_write_the_same_one_is_aborted", conflict),
        world.shared("a_conditional_write_is_done_once", condition),
        world.shared("of_many_writers_of_one_cursor_each_step_has_one_winner", race),
        world.shared(
            "a_transaction_sees_its_own_writes_and_leaves_nothing_when_aborted",
            abort,
        ),
        world.shared("uids_can_be_chosen_out_of_those_allocated", uids),
        world.shared("a_malformed_question_is_refused_with_dgraphs_words", refusal),
    ]
}

/// A new node with one integer, 0, under a predicate of the test's own.
async fn counter(client: &DgraphClient) -> (String, Uid) {
    let name = predicate("counter");
    client.alter(&format!("{name}: int .")).await.unwrap();
    let mut mutation = Mutation::new();
    mutation.set(Node::New("c".into()), &name, 0);
    let committed = client.write(None, vec![mutation]).await.unwrap();
    let uid = *committed.uids.get("c").unwrap();
    (name, uid)
}

/// What stands under a predicate of a node.
async fn read(client: &DgraphClient, uid: Uid, name: &str) -> Json {
    let query = Query::new(format!("{{ q(func: uid({uid})) {{ value: {name} }} }}"));
    let answer = client.query(&query, Reading::Strict).await.unwrap();
    let answer: Json = answer.read().unwrap();
    answer["q"][0]["value"].clone()
}

/// A step of a cursor: from `from` to `from + 1`, only where `from` stands.
fn step(name: &str, uid: Uid, from: i64) -> (Query, Vec<Mutation>) {
    let query = Query::new(format!(
        "{{ c as found(func: uid({uid})) @filter(eq({name}, {from})) {{ uid }} }}"
    ));
    let mut mutation = Mutation::new();
    mutation.set(uid, name, from + 1);
    (query, vec![mutation.only_if_found("c", 1)])
}

async fn version(client: DgraphClient) {
    for alpha in client.health().await {
        assert!(alpha.outcome.unwrap() >= MINIMUM_VERSION);
    }
}

async fn values(client: DgraphClient) {
    let name = |of| predicate(of);
    let (text, whole, real, flag, time, list) = (
        name("text"),
        name("whole"),
        name("real"),
        name("flag"),
        name("time"),
        name("list"),
    );
    client
        .alter(&format!(
            "{text}: string @index(hash) .\n{whole}: int .\n{real}: float .\n{flag}: bool .\n\
             {time}: datetime .\n{list}: [string] @index(hash) ."
        ))
        .await
        .unwrap();
    let mut mutation = Mutation::new();
    let node = || Node::New("n".into());
    let instant = "2026-11-24T08:34:00.123Z".parse().unwrap();
    mutation.set(node(), &text, "große 蜂\u{1f41d}");
    mutation.set(node(), &whole, i64::MIN + 1);
    mutation.set(node(), &real, Value::Float(0.1));
    mutation.set(node(), &flag, true);
    mutation.set(node(), &time, Value::Time(instant));
    mutation.set(node(), &list, "b");
    mutation.set(node(), &list, "a");
    client.write(None, vec![mutation]).await.unwrap();

    let query = Query::new(format!(
        "query q($t: string) {{ q(func: eq({text}, $t)) {{ a: {text} b: {whole} c: {real} d: {flag} e: {time} f: {list} }} }}"
    ))
    .with("$t", "große 蜂\u{1f41d}");
    for reading in [Reading::Strict, Reading::BestEffort] {
        let mut answer: Json = client.query(&query, reading).await.unwrap().read().unwrap();
        if let Some(list) = answer["q"][0]["f"].as_array_mut() {
            list.sort_by_key(Json::to_string);
        }
        assert_eq!(
            answer,
            json!({"q": [{
                "a": "große 蜂\u{1f41d}", "b": i64::MIN + 1, "c": 0.1, "d": true,
                "e": "2026-11-24T08:34:00.123Z", "f": ["a", "b"],
            }]}),
            "{reading:?}"
        );
    }
}

async fn syntax(client: DgraphClient) {
    let name = predicate("text");
    client
        .alter(&format!("{name}: string @index(exact) ."))
        .await
        .unwrap();
    let hostile =
        "\") { uid } } { q(func: has(dgraph.type)) { expand(_all_) } #\\\" \u{0} \r\n <x> <y> \"z\" .";
    let mut mutation = Mutation::new();
    mutation.set(Node::New("n".into()), &name, hostile);
    let written = client.write(None, vec![mutation]).await.unwrap();
    let query = Query::new(format!(
        "query q($t: string) {{ q(func: eq({name}, $t)) {{ uid t: {name} }} }}"
    ))
    .with("$t", hostile);
    let answer: Json = client
        .query(&query, Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap();
    let uid = written.uids.get("n").unwrap().to_string();
    assert_eq!(answer, json!({"q": [{"uid": uid, "t": hostile}]}));
}

async fn large(client: DgraphClient) {
    let name = predicate("text");
    client.alter(&format!("{name}: string .")).await.unwrap();
    // As the operations of the largest block that is thought of.
    let text = "0123456789 abcdefghijklmnopqrstuvwxyz {}[],: ".repeat(50_000_000 / 45);
    let mut mutation = Mutation::new();
    mutation.set(Node::New("n".into()), &name, text.as_str());
    let written = client.write(None, vec![mutation]).await.unwrap();
    let uid = *written.uids.get("n").unwrap();
    assert_eq!(read(&client, uid, &name).await, json!(text));
}

async fn deletion(client: DgraphClient) {
    let (name, uid) = counter(&client).await;
    let list = predicate("list");
    client
        .alter(&format!("{list}: [string] @index(hash) ."))
        .await
        .unwrap();
    let mut mutation = Mutation::new();
    for value in ["a", "b", "c"] {
        mutation.set(uid, &list, value);
    }
    client.write(None, vec![mutation]).await.unwrap();
    let mut mutation = Mutation::new();
    mutation.delete(uid, &list, "a");
    mutation.delete(uid, &list, "c");
    mutation.clear(uid, &name);
    client.write(None, vec![mutation]).await.unwrap();
    assert_eq!(read(&client, uid, &list).await, json!(["b"]));
    assert_eq!(read(&client, uid, &name).await, Json::Null);

    // In one mutation what is deleted goes first: this replaces a list.
    let mut mutation = Mutation::new();
    mutation.clear(uid, &list);
    mutation.set(uid, &list, "d");
    client.write(None, vec![mutation]).await.unwrap();
    assert_eq!(read(&client, uid, &list).await, json!(["d"]));
}

async fn conflict(client: DgraphClient) {
    let (name, uid) = counter(&client).await;
    let mut mutation = Mutation::new();
    mutation.set(uid, &name, 1);
    let (mut one, mut two) = (client.begin(), client.begin());
    for transaction in [&mut one, &mut two] {
        transaction.write(None, vec![mutation.clone()]).await.unwrap();
    }
    let first = one.commit().await.unwrap();
    assert!(first.is_some());
    assert_eq!(two.commit().await, Err(DgraphError::Aborted));
    assert_eq!(read(&client, uid, &name).await, json!(1));
}

async fn condition(client: DgraphClient) {
    let (name, uid) = counter(&client).await;
    let (query, mutations) = step(&name, uid, 0);
    let found = |answer: Json| answer["found"].as_array().map(Vec::len);
    let first = client.write(Some(&query), mutations.clone()).await.unwrap();
    assert_eq!(found(first.answer.read().unwrap()), Some(1));
    let again = client.write(Some(&query), mutations).await.unwrap();
    assert_eq!(
        found(again.answer.read().unwrap()),
        Some(0),
        "what did not apply is told by the answer"
    );
    assert_eq!(read(&client, uid, &name).await, json!(1));
}

async fn race(client: DgraphClient) {
    let (name, uid) = counter(&client).await;
    let steps = 20;
    let mut wins = 0;
    for from in 0..steps {
        let writers = (0..4).map(|_| {
            let (query, mutations) = step(&name, uid, from);
            let client = client.clone();
            async move { client.write(Some(&query), mutations).await }
        });
        for outcome in futures_util::future::join_all(writers).await {
            match outcome {
                Ok(committed) => {
                    let answer: Json = committed.answer.read().unwrap();
                    wins += answer["found"].as_array().map_or(0, Vec::len);
                }
                Err(error) => assert!(error.is_conflict(), "{error}"),
            }
        }
    }
    assert_eq!(wins, usize::try_from(steps).unwrap());
    assert_eq!(read(&client, uid, &name).await, json!(steps));
}

async fn abort(client: DgraphClient) {
    let (name, uid) = counter(&client).await;
    let mut transaction = client.begin();
    let mut mutation = Mutation::new();
    mutation.set(uid, &name, 5);
    transaction.write(None, vec![mutation]).await.unwrap();
    let query = Query::new(format!("{{ q(func: uid({uid})) {{ value: {name} }} }}"));
    let seen: Json = transaction.query(&query).await.unwrap().read().unwrap();
    assert_eq!(seen["q"][0]["value"], json!(5));
    transaction.abort().await;
    assert_eq!(read(&client, uid, &name).await, json!(0));
}

async fn uids(client: DgraphClient) {
    let (number, path) = (predicate("number"), predicate("path"));
    client
        .alter(&format!("{number}: int .\n{path}: [string] @index(hash) ."))
        .await
        .unwrap();
    let (first, last) = client.allocate_uids(1_000).await.unwrap().into_inner();
    assert_eq!(last.0 - first.0, 999);
    let mut mutation = Mutation::new();
    // Not in the order of their uids.
    for place in [7, 3, 9, 1] {
        mutation.set(Uid(first.0 + place), &number, i64::try_from(place).unwrap());
        mutation.set(Uid(first.0 + place), &path, "balances/alice");
    }
    client.write(None, vec![mutation]).await.unwrap();
    let query = Query::new(format!(
        "{{ q(func: eq({path}, \"balances/alice\"), first: -2) {{ n: {number} }} }}"
    ));
    let newest: Json = client
        .query(&query, Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap();
    assert_eq!(
        newest,
        json!({"q": [{"n": 7}, {"n": 9}]}),
        "nodes come in the order of their uids"
    );

    let mut beyond = Mutation::new();
    beyond.set(Uid(u64::MAX - 1), &number, 1);
    let error = client.write(None, vec![beyond]).await.unwrap_err();
    assert!(
        matches!(&error, DgraphError::Refused { .. }) && error.to_string().contains("lease"),
        "{error}"
    );
}

async fn refusal(client: DgraphClient) {
    let error = client
        .query(&Query::new("{ q(func: "), Reading::Strict)
        .await
        .unwrap_err();
    assert!(matches!(error, DgraphError::Refused { .. }), "{error}");
    let error = client.alter("name: nonsense .").await.unwrap_err();
    assert!(error.to_string().contains("Undefined Type"), "{error}");
}
