use std::time::Duration;

use super::scripted_alpha::{ScriptedAlpha, Seen};
use prost::Message;
use tonic::Status;

use super::*;

fn settings(alphas: &[&ScriptedAlpha]) -> DgraphSettings {
    DgraphSettings::new(alphas.iter().map(|alpha| alpha.url()).collect())
}

fn client(alphas: &[&ScriptedAlpha]) -> DgraphClient {
    DgraphClient::new(settings(alphas)).unwrap()
}

fn question() -> Query {
    Query::new("{ q(func: uid(0x1)) { uid } }")
}

fn fact() -> Vec<Mutation> {
    let mut mutation = Mutation::new();
    mutation.set(Uid(1), "name", "x");
    vec![mutation]
}

fn tokens(access: &str, refresh: &str) -> wire::Response {
    let jwt = wire::Jwt {
        access_jwt: access.to_owned(),
        refresh_jwt: refresh.to_owned(),
    };
    wire::Response {
        json: jwt.encode_to_vec().into(),
        ..wire::Response::default()
    }
}

fn with_login(alpha: &ScriptedAlpha) -> DgraphClient {
    let mut settings = settings(&[alpha]);
    settings.login = Some(Login {
        user: "groot".into(),
        password: "hunter2".into(),
        namespace: 3,
    });
    DgraphClient::new(settings).unwrap()
}

#[test]
fn a_client_without_an_alpha_is_refused() {
    let error = DgraphClient::new(DgraphSettings::new(Vec::new())).unwrap_err();
    assert_eq!(error, SettingsError::NoEndpoint);
}

#[tokio::test]
async fn a_dgraph_that_is_too_old_is_asked_for_nothing_else() {
    for tag in ["v25.3.8", "local", "v25.4.0-preview1"] {
        let alpha = ScriptedAlpha::start().await;
        alpha.set_version(tag);
        let client = client(&[&alpha]);
        for answer in [
            client.query(&question(), Reading::Strict).await.map(drop),
            client.write(None, fact()).await.map(drop),
            client.alter("name: string .").await,
        ] {
            let error = answer.unwrap_err();
            assert!(
                error.to_string().contains(tag) && error.to_string().contains("25.4.0"),
                "{error}"
            );
        }
        assert!(alpha.seen().iter().all(|seen| seen.method == "CheckVersion"));
    }
}

#[tokio::test]
async fn the_version_is_asked_for_once() {
    let alpha = ScriptedAlpha::start().await;
    let client = client(&[&alpha]);
    for _ in 0..3 {
        client.query(&question(), Reading::Strict).await.unwrap();
    }
    assert_eq!(alpha.count("CheckVersion"), 1);
    assert_eq!(alpha.count("Query"), 3);
}

#[tokio::test]
async fn alphas_take_turns_and_a_question_goes_on_to_the_next() {
    let (one, two) = (ScriptedAlpha::start().await, ScriptedAlpha::start().await);
    let client = client(&[&one, &two]);
    for _ in 0..4 {
        client.query(&question(), Reading::Strict).await.unwrap();
    }
    assert_eq!([one.count("Query"), two.count("Query")], [2, 2]);

    one.refuse_next(
        "Query",
        Status::unknown("Please retry again, server is not ready to accept requests"),
    );
    for _ in 0..4 {
        client.query(&question(), Reading::Strict).await.unwrap();
    }
    assert_eq!(
        [one.count("Query"), two.count("Query")],
        [3, 6],
        "the one that failed rests"
    );
}

#[tokio::test]
async fn when_no_alpha_can_be_reached_a_question_says_so() {
    let gone = ScriptedAlpha::gone().await;
    let client = DgraphClient::new(DgraphSettings::new(vec![gone.clone(), gone])).unwrap();
    let error = client.query(&question(), Reading::Strict).await.unwrap_err();
    assert!(matches!(error, DgraphError::Unavailable { .. }), "{error}");
    let health = client.health().await;
    assert!(health.len() == 2 && health.iter().all(|alpha| alpha.outcome.is_err()));
}

#[tokio::test]
async fn a_write_is_sent_once_and_its_outcome_may_be_unknown() {
    let (one, two) = (ScriptedAlpha::start().await, ScriptedAlpha::start().await);
    let client = client(&[&one, &two]);
    one.refuse_next("Query", Status::unavailable("connection reset"));
    let error = client.write(None, fact()).await.unwrap_err();
    assert!(error.outcome_unknown() && error.is_of_endpoint());
    assert_eq!([one.count("Query"), two.count("Query")], [1, 0]);
    client.write(None, fact()).await.unwrap();
    assert_eq!([one.count("Query"), two.count("Query")], [1, 1]);
}

#[tokio::test]
async fn a_conflict_and_a_refusal_are_told_apart() {
    let alpha = ScriptedAlpha::start().await;
    let client = client(&[&alpha]);
    alpha.refuse_next(
        "Query",
        Status::aborted("Transaction has been aborted. Please retry"),
    );
    let conflict = client.write(None, fact()).await.unwrap_err();
    assert!(conflict.is_conflict() && !conflict.outcome_unknown());
    alpha.refuse_next("Query", Status::unknown("while lexing"));
    let refusal = client.write(None, fact()).await.unwrap_err();
    assert!(refusal.to_string().contains("while lexing") && !refusal.outcome_unknown());
}

#[tokio::test]
async fn an_answer_is_waited_for_no_longer_than_is_said() {
    let alpha = ScriptedAlpha::start().await;
    let mut settings = settings(&[&alpha]);
    settings.timeouts.query = Duration::from_millis(50);
    let client = DgraphClient::new(settings).unwrap();
    client.health().await;
    alpha.hold();
    let error = client.query(&question(), Reading::Strict).await.unwrap_err();
    assert!(matches!(error, DgraphError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn an_answer_larger_than_is_allowed_is_refused() {
    let alpha = ScriptedAlpha::start().await;
    let mut settings = settings(&[&alpha]);
    settings.max_answer_bytes = 1_000;
    let client = DgraphClient::new(settings).unwrap();
    let large = wire::Response {
        json: vec![b' '; 2_000].into(),
        ..wire::Response::default()
    };
    alpha.answer_next(Ok(large));
    let error = client.query(&question(), Reading::Strict).await.unwrap_err();
    assert!(
        matches!(error, DgraphError::AnswerTooLarge { limit: 1_000, .. }),
        "{error}"
    );
    assert!(
        error.outcome_unknown(),
        "a write is done before its answer is read"
    );
    assert!(!error.is_of_endpoint());
}

#[tokio::test]
async fn questions_of_one_snapshot_name_it_to_one_alpha() {
    let (one, two) = (ScriptedAlpha::start().await, ScriptedAlpha::start().await);
    let client = client(&[&one, &two]);
    let of = |start_ts, json: &'static str| wire::Response {
        json: json.as_bytes().into(),
        txn: Some(wire::TxnContext {
            start_ts,
            hash: "bound".into(),
            ..wire::TxnContext::default()
        }),
        ..wire::Response::default()
    };
    one.answer_next(Ok(of(9, "[1]")));
    one.answer_next(Ok(of(9, "[2]")));
    let questions = [question(), question()];
    let answers = client.query_together(&questions, Reading::Strict).await.unwrap();
    assert_eq!(
        answers.map(|answer| answer.read::<Vec<u8>>().unwrap()),
        [[1], [2]]
    );
    let steps = one.all("Query");
    assert!(steps[0].message.contains("start_ts: 0"));
    assert!(steps[1].message.contains("start_ts: 9") && steps[1].message.contains("\"bound\""));
    assert!(steps.iter().all(|seen| seen.message.contains("read_only: true")));

    // One that fails in the middle is asked nothing more, and the other one from the beginning.
    two.answer_next(Ok(of(5, "[1]")));
    two.answer_next(Err(Status::unavailable("connection reset")));
    for json in ["[3]", "[4]"] {
        one.answer_next(Ok(of(11, json)));
    }
    let answers = client.query_together(&questions, Reading::Strict).await.unwrap();
    assert_eq!(
        answers.map(|answer| answer.read::<Vec<u8>>().unwrap()),
        [[3], [4]]
    );
    assert!(one.all("Query")[2].message.contains("start_ts: 0"));
}

#[tokio::test]
async fn an_answer_of_another_snapshot_is_not_taken() {
    let alpha = ScriptedAlpha::start().await;
    let client = client(&[&alpha]);
    for start_ts in [9, 10] {
        alpha.answer_next(Ok(wire::Response {
            txn: Some(wire::TxnContext {
                start_ts,
                ..wire::TxnContext::default()
            }),
            ..wire::Response::default()
        }));
    }
    let questions = [question(), question()];
    let answer = client.query_together(&questions, Reading::Strict).await;
    assert!(matches!(answer, Err(DgraphError::Answer(_))));
}

#[tokio::test]
async fn the_auth_token_is_shown_and_a_refusal_does_not_repeat_it() {
    let alpha = ScriptedAlpha::start().await;
    let mut settings = settings(&[&alpha]);
    settings.auth_token = Some("hunter2".into());
    let client = DgraphClient::new(settings).unwrap();
    alpha.refuse_next(
        "Alter",
        Status::unknown("Provided auth token [hunter2] does not match."),
    );
    let error = client.alter("name: string .").await.unwrap_err();
    assert!(
        !format!("{error} {error:?} {client:?}").contains("hunter2"),
        "{error}"
    );
    let alter = alpha.last("Alter");
    assert_eq!(alter.auth_token.as_deref(), Some("hunter2"));
}

#[tokio::test]
async fn it_logs_in_once_and_shows_its_token() {
    let alpha = ScriptedAlpha::start().await;
    alpha.answer_login(Ok(tokens("access-1", "refresh-1")));
    let client = with_login(&alpha);
    let asks = (0..4).map(|_| async { client.query(&question(), Reading::Strict).await.unwrap() });
    join_all(asks).await;
    let logins: Vec<Seen> = alpha.all("Login");
    assert_eq!(logins.len(), 1);
    assert!(logins[0].message.contains("groot") && logins[0].message.contains("namespace: 3"));
    assert!(
        alpha
            .all("Query")
            .iter()
            .all(|seen| seen.access_token.as_deref() == Some("access-1"))
    );
}

#[tokio::test]
async fn an_expired_token_is_renewed_once_for_all_and_the_call_done_again() {
    let alpha = ScriptedAlpha::start().await;
    alpha.answer_login(Ok(tokens("access-1", "refresh-1")));
    alpha.answer_login(Ok(tokens("access-2", "refresh-2")));
    alpha.set_expired("access-1");
    let client = with_login(&alpha);
    let writes = (0..4).map(|_| async { client.write(None, fact()).await.unwrap() });
    join_all(writes).await;
    assert_eq!(alpha.count("Login"), 2, "one login, one renewal");
    assert_eq!(alpha.logins(), ["password", "refresh-1"]);
}

#[tokio::test]
async fn where_the_refresh_token_is_not_taken_either_the_password_is_used() {
    let alpha = ScriptedAlpha::start().await;
    alpha.answer_login(Ok(tokens("access-1", "refresh-1")));
    alpha.answer_login(Err(Status::unknown("invalid username or password")));
    alpha.answer_login(Ok(tokens("access-2", "refresh-2")));
    alpha.set_expired("access-1");
    let client = with_login(&alpha);
    client.query(&question(), Reading::Strict).await.unwrap();
    assert_eq!(alpha.logins(), ["password", "refresh-1", "password"]);
}

#[tokio::test]
async fn a_wrong_password_is_said_without_showing_it() {
    let alpha = ScriptedAlpha::start().await;
    alpha.answer_login(Err(Status::unknown("invalid username or password hunter2")));
    let client = with_login(&alpha);
    let error = client.query(&question(), Reading::Strict).await.unwrap_err();
    assert!(matches!(error, DgraphError::Unauthenticated { .. }), "{error}");
    assert!(!format!("{error} {error:?} {client:?}").contains("hunter2"));
    assert_eq!(alpha.count("Query"), 0);
}

#[tokio::test]
async fn a_transaction_keeps_its_timestamp_and_commits_what_all_steps_wrote() {
    let alpha = ScriptedAlpha::start().await;
    let client = client(&[&alpha]);
    let step = |keys: &[&str]| wire::Response {
        txn: Some(wire::TxnContext {
            start_ts: 7,
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            preds: vec!["1-name".into()],
            hash: "bound".into(),
            ..wire::TxnContext::default()
        }),
        ..wire::Response::default()
    };
    for keys in [&[][..], &["b", "a"], &["a", "c"]] {
        alpha.answer_next(Ok(step(keys)));
    }
    let mut transaction = client.begin();
    transaction.query(&question()).await.unwrap();
    transaction.write(None, fact()).await.unwrap();
    transaction.write(None, fact()).await.unwrap();
    let committed = transaction.commit().await.unwrap();
    assert_eq!(committed, Some(CommitTimestamp(8)));
    let steps = alpha.all("Query");
    assert!(steps[0].message.contains("start_ts: 0"));
    assert!(
        steps[1..]
            .iter()
            .all(|seen| seen.message.contains("start_ts: 7") && seen.message.contains("\"bound\""))
    );
    let commit = alpha.last("CommitOrAbort").message;
    assert!(
        commit.contains(r#"keys: ["a", "b", "c"]"#) && commit.contains(r#"preds: ["1-name"]"#),
        "{commit}"
    );
}

#[tokio::test]
async fn a_transaction_that_only_asked_has_nothing_to_commit() {
    let alpha = ScriptedAlpha::start().await;
    let mut transaction = client(&[&alpha]).begin();
    transaction.query(&question()).await.unwrap();
    assert_eq!(transaction.commit().await.unwrap(), None);
    assert_eq!(alpha.count("CommitOrAbort"), 0);
}

#[tokio::test]
async fn after_a_failed_step_nothing_is_committed() {
    let alpha = ScriptedAlpha::start().await;
    let mut transaction = client(&[&alpha]).begin();
    transaction.write(None, fact()).await.unwrap();
    alpha.refuse_next("Query", Status::unknown("while lexing"));
    transaction.write(None, fact()).await.unwrap_err();
    assert_eq!(transaction.query(&question()).await, Err(DgraphError::Aborted));
    assert_eq!(transaction.commit().await, Err(DgraphError::Aborted));
    assert!(alpha.last("CommitOrAbort").message.contains("aborted: true"));
}

#[tokio::test]
async fn a_commit_that_dgraph_aborts_is_a_conflict() {
    let alpha = ScriptedAlpha::start().await;
    let mut transaction = client(&[&alpha]).begin();
    transaction.write(None, fact()).await.unwrap();
    alpha.refuse_next(
        "CommitOrAbort",
        Status::aborted("Transaction has been aborted. Please retry"),
    );
    assert_eq!(transaction.commit().await, Err(DgraphError::Aborted));
}
