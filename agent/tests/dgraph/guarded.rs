//! TLS, logins, tokens and an alpha that goes away, each on a real Dgraph of its own.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use honeygraph_agent::dgraph::client::{
    ClientIdentity, DgraphClient, DgraphError, DgraphSettings, EndpointUrl, Login, Mutation, Node, Query,
    Reading, Uid,
};
use libtest_mimic::Trial;

use super::World;
use super::cluster::{Cluster, eventually, ready};

pub(crate) fn trials(world: &Arc<World>) -> Vec<Trial> {
    vec![
        world.own("tls_needs_the_right_authority_and_a_client_certificate", tls),
        world.own("a_login_outlives_its_tokens", login),
        world.own("the_schema_needs_the_auth_token", auth_token),
        world.own("an_alpha_that_was_away_is_used_again", away),
        world.own("uids_stay_leased_when_everything_is_dropped", leased),
    ]
}

fn question() -> Query {
    Query::new("{ q(func: has(dgraph.graphql.schema)) { uid } }")
}

fn client_of(endpoint: EndpointUrl, change: impl FnOnce(&mut DgraphSettings)) -> DgraphClient {
    let mut settings = DgraphSettings::new(vec![endpoint]);
    change(&mut settings);
    DgraphClient::new(settings).unwrap()
}

async fn tls(program: PathBuf, directory: PathBuf) {
    let certificates = directory.join("tls");
    let made = Command::new(&program)
        .args(["cert", "--nodes", "127.0.0.1", "--client", "agent", "--dir"])
        .arg(&certificates)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(made.success());
    let file = |name: &str| certificates.join(name).to_str().unwrap().to_owned();
    let flag = format!(
        "ca-cert={}; server-cert={}; server-key={}; client-auth-type=REQUIREANDVERIFY; internal-port=false;",
        file("ca.crt"),
        file("node.crt"),
        file("node.key")
    );
    let cluster = Cluster::start(&program, &directory, &["--tls", &flag]);
    let read = |name: &str| std::fs::read(file(name)).unwrap();
    let identity = || ClientIdentity {
        certificate_pem: read("client.agent.crt"),
        key_pem: read("client.agent.key").into(),
    };
    let client = client_of(cluster.tls_endpoint(), |settings| {
        settings.tls.ca_pem = Some(read("ca.crt"));
        settings.tls.identity = Some(identity());
    });
    ready(&client).await;
    client.query(&question(), Reading::Strict).await.unwrap();

    let refused = [
        (
            "an authority that is not trusted",
            client_of(cluster.tls_endpoint(), |settings| {
                settings.tls.identity = Some(identity());
            }),
        ),
        (
            "no client certificate",
            client_of(cluster.tls_endpoint(), |settings| {
                settings.tls.ca_pem = Some(read("ca.crt"));
            }),
        ),
        (
            "a certificate for another name",
            client_of(cluster.tls_endpoint(), |settings| {
                settings.tls.ca_pem = Some(read("ca.crt"));
                settings.tls.identity = Some(identity());
                settings.tls.server_name = Some("alpha.example".into());
            }),
        ),
        ("no TLS", cluster.client()),
    ];
    for (what, client) in refused {
        let error = client.query(&question(), Reading::Strict).await.unwrap_err();
        assert!(
            matches!(error, DgraphError::Unavailable { .. }),
            "{what}: {error}"
        );
    }
}

async fn login(program: PathBuf, directory: PathBuf) {
    let secret = secret_file(&directory);
    let flag = format!("secret-file={secret}; access-ttl=2s; refresh-ttl=1h;");
    let flags = ["--acl", &flag, "--security", "whitelist=127.0.0.1"];
    let cluster = Cluster::start(&program, &directory, &flags);
    let with_password = |password: &str| {
        client_of(cluster.endpoint(), |settings| {
            settings.login = Some(Login {
                user: "groot".into(),
                password: password.into(),
                namespace: 0,
            });
        })
    };
    let client = with_password("password");
    ready(&client).await;
    // The first user is made some time after an alpha says that it is well.
    eventually(async || client.query(&question(), Reading::Strict).await).await;
    client
        .alter("honeygraph_test_name: string @index(hash) .")
        .await
        .unwrap();
    client.allocate_uids(10).await.unwrap();

    let wrong = with_password("hunter2")
        .query(&question(), Reading::Strict)
        .await
        .unwrap_err();
    assert!(matches!(wrong, DgraphError::Unauthenticated { .. }), "{wrong}");
    let none = cluster
        .client()
        .query(&question(), Reading::Strict)
        .await
        .unwrap_err();
    assert!(matches!(none, DgraphError::Unauthenticated { .. }), "{none}");

    // Longer than a token lives, every call works, also those of an open transaction.
    let began = Instant::now();
    let mut transaction = client.begin();
    transaction.query(&question()).await.unwrap();
    while began.elapsed() < Duration::from_secs(5) {
        client.query(&question(), Reading::BestEffort).await.unwrap();
        transaction.query(&question()).await.unwrap();
    }
    let mut mutation = Mutation::new();
    mutation.set(Node::New("n".into()), "honeygraph_test_name", "x");
    transaction.write(None, vec![mutation]).await.unwrap();
    assert!(transaction.commit().await.unwrap().is_some());
}

fn secret_file(directory: &Path) -> String {
    let path = directory.join("hmac");
    std::fs::write(&path, "0123456789abcdef0123456789abcdef").unwrap();
    path.to_str().unwrap().to_owned()
}

async fn auth_token(program: PathBuf, directory: PathBuf) {
    let flags = ["--security", "whitelist=127.0.0.1; token=correct-horse;"];
    let cluster = Cluster::start(&program, &directory, &flags);
    ready(&cluster.client()).await;
    let schema = "honeygraph_test_name: string .";
    let with_token = |token: &str| {
        client_of(cluster.endpoint(), |settings| {
            settings.auth_token = Some(token.into());
        })
    };
    eventually(async || with_token("correct-horse").alter(schema).await).await;
    for client in [cluster.client(), with_token("hunter2-hunter2")] {
        let error = client.alter(schema).await.unwrap_err();
        assert!(matches!(error, DgraphError::Refused { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"), "{error}");
    }
}

async fn away(program: PathBuf, directory: PathBuf) {
    let mut cluster = Cluster::start(&program, &directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    eventually(async || client.query(&question(), Reading::Strict).await).await;
    cluster.kill_alpha();
    let error = client.query(&question(), Reading::Strict).await.unwrap_err();
    assert!(error.is_of_endpoint(), "{error}");
    cluster.start_alpha();
    eventually(async || client.query(&question(), Reading::Strict).await).await;

    // Without its zero an alpha still tells what it has, to those who do not ask for the newest.
    cluster.kill_zero();
    client.query(&question(), Reading::BestEffort).await.unwrap();
    cluster.start_zero();
    eventually(async || client.query(&question(), Reading::Strict).await).await;
}

async fn leased(program: PathBuf, directory: PathBuf) {
    let cluster = Cluster::start(&program, &directory, &["--security", "whitelist=127.0.0.1"]);
    let client = cluster.client();
    ready(&client).await;
    let count = 1 << 62;
    let lease = eventually(|| client.allocate_uids(count)).await;
    eventually(|| client.drop_all()).await;
    client
        .alter("honeygraph_test_name: string @index(exact) .")
        .await
        .unwrap();
    // Whoever knows a uid that was leased once may name a node by it, also far apart from all others.
    let mut mutation = Mutation::new();
    for uid in [*lease.end(), *lease.start(), Uid(lease.start().0 + count / 3)] {
        mutation.set(uid, "honeygraph_test_name", uid.to_string());
    }
    client.write(None, vec![mutation]).await.unwrap();
    let query = Query::new(
        "{ q(func: between(honeygraph_test_name, \"0\", \"1\")) { uid n: honeygraph_test_name } }",
    );
    let answer: serde_json::Value = client
        .query(&query, Reading::Strict)
        .await
        .unwrap()
        .read()
        .unwrap();
    let nodes = answer["q"].as_array().unwrap();
    assert_eq!(nodes.len(), 3);
    assert!(nodes.iter().all(|node| node["uid"] == node["n"]), "{answer}");
    // What Dgraph chooses from now on lies beyond.
    let mut mutation = Mutation::new();
    mutation.set(Node::New("n".into()), "honeygraph_test_name", "x");
    let made = client.write(None, vec![mutation]).await.unwrap();
    assert!(made.uids.get("n").unwrap() > lease.end());
}
