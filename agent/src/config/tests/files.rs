//! Settings that name files.

use super::*;

#[test]
fn files_add_to_flags_and_skip_comments() {
    let read = |path: &Path| -> io::Result<String> {
        Ok(match path.to_str().unwrap() {
            "keys" => format!("# ours\n{KEY}-1\n\n  {KEY}-2\r\n"),
            "sources" => format!("b={KEY}-2\n"),
            _ => format!("{KEY}\n"),
        })
    };
    let flags = [
        "--api-keys-file=keys",
        &format!("--api-key={KEY}"),
        &format!("--honeycomb-sources=a={KEY}"),
        "--honeycomb-sources-file=sources",
        "--admin-token-file=token",
        "--admin-listen=0.0.0.0:3031",
    ];
    let config = validate(parse(&flags).unwrap(), &read).unwrap();
    assert_eq!(config.access.api_keys.len(), 3);
    assert!(config.access.api_keys[2].matches(format!("{KEY}-2").as_bytes()));
    assert!(config.access.admin_token.unwrap().matches(KEY.as_bytes()));
    assert_eq!(config.sources.honeycombs.len(), 2);
    assert!(
        config.sources.honeycombs[1]
            .token
            .matches(format!("{KEY}-2").as_bytes())
    );
}

#[test]
fn files_that_do_not_serve_are_named_without_their_content() {
    assert!(line(&["--api-keys-file=gone"]).starts_with("API_KEYS_FILE=gone: the file cannot be read: "));
    let weak = |_: &Path| Ok(format!("{KEY}\nhunter2\n"));
    let line = line_with(&["--api-keys-file=keys"], &weak);
    assert!(
        line.starts_with("API_KEYS_FILE=keys: line 2 ") && !line.contains("hunter2"),
        "{line}"
    );
    let empty = |_: &Path| Ok("# none\n".to_owned());
    for variable in ["API_KEYS_FILE", "ADMIN_TOKEN_FILE"] {
        let flag = format!("--{}=file", variable.replace('_', "-").to_lowercase());
        assert!(line_with(&[&flag], &empty).starts_with(variable));
    }
    let one = |_: &Path| Ok(KEY.to_owned());
    let two = line_with(
        &["--admin-token-file=file", &format!("--admin-token={KEY}")],
        &one,
    );
    assert!(
        two.starts_with("ADMIN_TOKEN_FILE=file: ") && !two.contains(KEY),
        "{two}"
    );
}

const TLS_FLAGS: [&str; 4] = [
    "--ingest-tls-certificate-file=certificate",
    "--ingest-tls-key-file=key",
    "--ingest-tls-client-ca-file=authorities",
    "--honeycomb-certificates=b,a,b",
];

#[test]
fn tls_files_are_read_and_certified_sources_vote() {
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let read = |path: &Path| {
        Ok(match path.to_str().unwrap() {
            "key" => ours.signing_key.serialize_pem(),
            _ => ours.cert.pem(),
        })
    };
    let tokens = format!("--honeycomb-sources=b={KEY}");
    let flags = [&TLS_FLAGS[..], &[&tokens]].concat();
    let config = validate(parse(&flags).unwrap(), &read).unwrap();
    assert!(config.access.ingest_tls.is_some());
    let names = |names: &[SourceId]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&config.sources.certified), ["b", "a"]);
    let voters = config.network.voters.iter().map(|voter| voter.name.to_string());
    assert_eq!(voters.collect::<Vec<_>>(), ["a", "b"]);
    let without_authorities = validate(parse(&TLS_FLAGS[..2]).unwrap(), &read).unwrap();
    assert!(without_authorities.access.ingest_tls.is_some());
}

#[test]
fn tls_files_that_do_not_serve_are_named_without_their_content() {
    let ours = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (certificate, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
    let other_key = rcgen::KeyPair::generate().unwrap().serialize_pem();
    let broken = certificate.replace("MII", "AII");
    for (bad, content, expected) in [
        (
            "certificate",
            key.as_str(),
            "INGEST_TLS_CERTIFICATE_FILE=certificate: holds no",
        ),
        (
            "certificate",
            broken.as_str(),
            "INGEST_TLS_CERTIFICATE_FILE=certificate: ",
        ),
        (
            "certificate",
            "hunter2",
            "INGEST_TLS_CERTIFICATE_FILE=certificate: holds no",
        ),
        ("key", certificate.as_str(), "INGEST_TLS_KEY_FILE=key: holds no"),
        (
            "key",
            other_key.as_str(),
            "INGEST_TLS_KEY_FILE=key: is not the key of",
        ),
        (
            "authorities",
            "",
            "INGEST_TLS_CLIENT_CA_FILE=authorities: holds no",
        ),
        (
            "authorities",
            broken.as_str(),
            "INGEST_TLS_CLIENT_CA_FILE=authorities: ",
        ),
    ] {
        let read = |path: &Path| {
            Ok(match path.to_str().unwrap() {
                name if name == bad => content.to_owned(),
                "key" => key.clone(),
                _ => certificate.clone(),
            })
        };
        let line = line_with(&TLS_FLAGS, &read);
        assert!(line.starts_with(expected), "{bad}: {line}");
        assert!(!line.contains('\n') && !line.contains("hunter2"), "{line}");
    }
    let line = line_with(&TLS_FLAGS, &no_files);
    assert!(
        line.contains("_FILE=") && line.contains(": the file cannot be read: "),
        "{line}"
    );
}

#[test]
fn a_file_beyond_its_cap_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "x".repeat(1 << 20)).unwrap();
    assert_eq!(read_small_file(file.path()).unwrap().len(), 1 << 20);
    std::fs::write(file.path(), "x".repeat((1 << 20) + 1)).unwrap();
    assert!(read_small_file(file.path()).is_err());
}
