//! Settings of a Dgraph.

use super::*;

#[test]
fn without_a_dgraph_the_node_is_embedded() {
    assert!(config(&[]).dgraph.is_none());
    assert!(config(&["--dgraph-mode=embedded"]).dgraph.is_none());
    assert!(config(&["--dgraph-mode=", "--dgraph-alpha="]).dgraph.is_none());
}

#[test]
fn a_dgraph_is_named_by_its_alphas() {
    let dgraph = config(&["--dgraph-alpha=alpha-1:9080, http://alpha-2,https://[::1]:9081,alpha-1:9080"])
        .dgraph
        .unwrap();
    let endpoints: Vec<String> = dgraph.client.endpoints.iter().map(ToString::to_string).collect();
    assert_eq!(
        endpoints,
        ["http://alpha-1:9080", "http://alpha-2:9080", "https://[::1]:9081"]
    );
    assert_eq!(dgraph.mode, DgraphMode::Independent);
    assert_eq!(dgraph.step_blocks.get(), 500);
    assert_eq!(dgraph.query, None);
    for mode in [DgraphMode::Independent, DgraphMode::Shared, DgraphMode::Hybrid] {
        let flags = [&format!("--dgraph-mode={mode}"), "--dgraph-alpha=alpha"];
        assert_eq!(config(&flags).dgraph.unwrap().mode, mode);
    }
}

#[test]
fn dgraph_settings_that_contradict_each_other_are_named() {
    let alpha = "--dgraph-alpha=alpha:9080";
    let key = format!("--api-key={KEY}");
    for (flags, setting, other) in [
        (
            &["--dgraph-mode=shared"][..],
            "DGRAPH_MODE=shared",
            "DGRAPH_ALPHA",
        ),
        (
            &["--dgraph-mode=embedded", alpha],
            "DGRAPH_MODE=embedded",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-user=groot"], "DGRAPH_USER=groot", "DGRAPH_ALPHA"),
        (
            &["--dgraph-password-file=p"],
            "DGRAPH_PASSWORD_FILE=p",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-namespace=0"], "DGRAPH_NAMESPACE=0", "DGRAPH_ALPHA"),
        (
            &["--dgraph-auth-token-file=t"],
            "DGRAPH_AUTH_TOKEN_FILE=t",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-ca-file=c"], "DGRAPH_CA_FILE=c", "DGRAPH_ALPHA"),
        (
            &["--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "DGRAPH_ALPHA",
        ),
        (&["--dgraph-key-file=k"], "DGRAPH_KEY_FILE=k", "DGRAPH_ALPHA"),
        (
            &["--dgraph-query=read-only", &key],
            "DGRAPH_QUERY=read-only",
            "DGRAPH_ALPHA",
        ),
        (
            &[alpha, "--dgraph-user=groot"],
            "DGRAPH_USER=groot",
            "DGRAPH_PASSWORD_FILE",
        ),
        (
            &[alpha, "--dgraph-password-file=p"],
            "DGRAPH_PASSWORD_FILE=p",
            "DGRAPH_USER",
        ),
        (
            &[alpha, "--dgraph-namespace=3"],
            "DGRAPH_NAMESPACE=3",
            "DGRAPH_USER",
        ),
        (&[alpha, "--dgraph-ca-file=c"], "DGRAPH_CA_FILE=c", "https://"),
        (
            &[alpha, "--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "https://",
        ),
        (&[alpha, "--dgraph-key-file=k"], "DGRAPH_KEY_FILE=k", "https://"),
        (
            &["--dgraph-alpha=https://alpha", "--dgraph-certificate-file=c"],
            "DGRAPH_CERTIFICATE_FILE=c",
            "DGRAPH_KEY_FILE",
        ),
        (
            &["--dgraph-alpha=https://alpha", "--dgraph-key-file=k"],
            "DGRAPH_KEY_FILE=k",
            "DGRAPH_CERTIFICATE_FILE",
        ),
        (
            &[alpha, "--dgraph-query=read-only"],
            "DGRAPH_QUERY=read-only",
            "API_KEYS_FILE",
        ),
        (
            &[
                alpha,
                &key,
                "--dgraph-query=read-only",
                "--limit-request-timeout-ms=4000",
            ],
            "DGRAPH_QUERY_TIMEOUT_MS=5000",
            "LIMIT_REQUEST_TIMEOUT_MS",
        ),
    ] {
        assert_names_both((&flags.join(" "), setting, other));
    }
}

#[test]
fn what_dql_questions_may_cost_can_be_set() {
    let dgraph = config(&[
        "--dgraph-alpha=alpha",
        &format!("--api-key={KEY}"),
        "--dgraph-query=read-only",
        "--dgraph-query-body-bytes=2000",
        "--dgraph-query-answer-bytes=3000",
        "--dgraph-query-timeout-ms=700",
        "--dgraph-query-concurrent=2",
    ])
    .dgraph
    .unwrap();
    let limits = dgraph.query.unwrap();
    assert_eq!(
        (limits.body_bytes, limits.answer_bytes, limits.concurrent),
        (2_000, 3_000, 2)
    );
    assert_eq!(limits.timeout.as_millis(), 700);
}

#[test]
fn secrets_of_dgraph_are_read_from_files() {
    let signed = rcgen::generate_simple_self_signed(["alpha".to_owned()]).unwrap();
    let (certificate, key) = (signed.cert.pem(), signed.signing_key.serialize_pem());
    let files = |path: &Path| {
        Ok(match path.to_str().unwrap() {
            "password" => "correct horse\n".to_owned(),
            "token" => "correct-horse-token\r\n".to_owned(),
            "ca" | "certificate" => certificate.clone(),
            "key" => key.clone(),
            "empty" => "\n".to_owned(),
            "two" => "hunter2\nhunter3\n".to_owned(),
            "unsendable" => "hunter2\u{e9}\u{1}".to_owned(),
            other => panic!("{other}"),
        })
    };
    let flags = [
        "--dgraph-alpha=https://alpha",
        "--dgraph-user=groot",
        "--dgraph-password-file=password",
        "--dgraph-namespace=3",
        "--dgraph-auth-token-file=token",
        "--dgraph-ca-file=ca",
        "--dgraph-certificate-file=certificate",
        "--dgraph-key-file=key",
    ];
    let config = validate(parse(&flags).unwrap(), &files).unwrap();
    assert!(!format!("{config:?}").contains("correct"), "{config:?}");
    let client = config.dgraph.unwrap().client;
    let login = client.login.unwrap();
    assert_eq!((login.user.as_str(), login.namespace), ("groot", 3));
    assert_eq!(login.password.expose_secret(), "correct horse");
    assert_eq!(client.auth_token.unwrap().expose_secret(), "correct-horse-token");
    assert_eq!(client.tls.ca_pem.unwrap(), certificate.as_bytes());
    let identity = client.tls.identity.unwrap();
    assert_eq!(identity.certificate_pem, certificate.as_bytes());
    assert_eq!(identity.key_pem.expose_secret(), key.as_bytes());

    for (place, file) in [
        (2, "empty"),
        (2, "two"),
        (4, "empty"),
        (4, "two"),
        (4, "unsendable"),
        (5, "key"),
        (5, "empty"),
        (6, "password"),
        (7, "certificate"),
    ] {
        let mut flags = flags;
        let (name, _) = flags[place].split_once('=').unwrap();
        let flag = format!("{name}={file}");
        flags[place] = &flag;
        let line = line_with(&flags, &files);
        let variable = name.trim_start_matches('-').replace('-', "_").to_uppercase();
        assert!(line.starts_with(&format!("{variable}={file}: ")), "{line}");
        assert!(!line.contains("hunter") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn credentials_in_the_address_of_an_alpha_are_not_repeated() {
    for alpha in [
        "groot:hunter2@alpha:9080",
        "https://groot:hunter2@alpha",
        "alpha,x:hunter2@a",
    ] {
        let line = line(&[&format!("--dgraph-alpha={alpha}")]);
        assert!(
            line.starts_with("DGRAPH_ALPHA: ") && !line.contains("hunter"),
            "{line}"
        );
    }
}
