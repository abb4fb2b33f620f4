use super::*;

const PROTECTED: &str = "listen = \"0.0.0.0:7411\"\n[tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\n\
                         [[tokens]]\nname = \"ci\"\nrole = \"submit\"\ntoken_file = \"t\"\n";

fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("serve.toml");
    std::fs::write(&path, text).unwrap();
    (dir, path)
}

fn load(text: &str, over: ServeOverrides) -> Result<ServeConfig, Usage> {
    let (_dir, path) = file(text);
    ServeConfig::load(Some(&path), over)
}

#[test]
fn flags_win_over_the_file_and_the_file_over_defaults() {
    let over = ServeOverrides {
        max_running_jobs: Some(5),
        tls_key: Some("other.pem".into()),
        data_roots: vec!["/data".into()],
        ..ServeOverrides::default()
    };
    let text = "max_running_jobs = 3\nstate_dir = \"here\"\ndata_roots = [\"a\", \"b\"]\n\
                [tls]\ncert = \"c.pem\"\nkey = \"k.pem\"\nname = \"accord\"\n";
    let config = load(text, over).unwrap();
    assert_eq!(config.max_running_jobs, 5);
    assert_eq!(config.state_dir, PathBuf::from("here"));
    assert_eq!(config.listen.to_string(), DEFAULT_LISTEN);
    assert_eq!(config.data_roots, Some(vec!["/data".into()]));
    let tls = config.tls.unwrap();
    assert_eq!((tls.cert, tls.key, tls.name), ("c.pem".into(), "other.pem".into(), Some("accord".into())));
}

#[test]
fn what_is_dumped_loads_to_the_same() {
    let protected = load(PROTECTED, ServeOverrides::default()).unwrap();
    let config = ServeConfig {
        worker_binary: Some("bin/worker".into()),
        data_roots: Some(vec!["/data".into()]),
        metrics_listen: Some("127.0.0.1:9100".parse().unwrap()),
        ..protected
    };
    assert_eq!(load(&config.dump().unwrap(), ServeOverrides::default()).unwrap(), config);
}

#[test]
fn an_address_that_others_reach_needs_tls_and_a_token_or_insecure() {
    let load = |text: &str| load(text, ServeOverrides::default());
    assert!(load(PROTECTED).is_ok());
    let (tls, tokens) = (PROTECTED.find("[tls]").unwrap(), PROTECTED.find("[[tokens]]").unwrap());
    let (bare, no_tokens) = (&PROTECTED[..tls], &PROTECTED[..tokens]);
    let no_tls = format!("{bare}{}", &PROTECTED[tokens..]);
    for (text, missing) in
        [(bare, "TLS and a token are missing"), (no_tokens, "a token is missing"), (no_tls.as_str(), "TLS is missing")]
    {
        let error = load(text).unwrap_err();
        assert!(error.0.contains(missing) && error.0.contains("--insecure"), "{error}");
        let over = ServeOverrides { insecure: true, ..ServeOverrides::default() };
        let config = super::tests::load(text, over).unwrap();
        assert!(!config.missing_protection().is_empty());
    }
    assert!(load("listen = \"[::1]:7411\"").is_ok());
    assert!(load("insecure = true").is_err(), "no file can say so");
}

#[test]
fn what_cannot_be_used_is_named() {
    for (text, word) in [
        ("lisen = \"127.0.0.1:1\"", "lisen"),
        ("max_running_jobs = 0", "max_running_jobs"),
        ("data_roots = []", "data_roots"),
        ("[tls]\ncert = \"c\"", "key"),
        ("[[tokens]]\nname = \"a\"\nrole = \"admin\"", "admin"),
        ("[[tokens]]\nname = \"\"\nrole = \"read\"", "name"),
    ] {
        let error = load(text, ServeOverrides::default()).unwrap_err();
        assert!(error.0.contains(word), "{error}");
    }
    let over = ServeOverrides { tls_cert: Some("c".into()), ..ServeOverrides::default() };
    assert!(load("", over).unwrap_err().0.contains("--tls-key"));
}

#[test]
fn a_token_comes_from_a_file_or_a_digest_and_a_weak_one_is_refused_without_being_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let token = |token_file: Option<&Path>, blake3: Option<String>| TokenSettings {
        name: "ci".into(),
        role: crate::server::Role::Read,
        token_file: token_file.map(Into::into),
        blake3,
    };
    let access = |token| ServeConfig { tokens: vec![token], ..ServeConfig::default() }.access();
    std::fs::write(&path, "0123456789abcdef\n").unwrap();
    let digest = blake3::hash(b"0123456789abcdef");
    for token in [token(Some(&path), None), token(None, Some(digest.to_hex().to_string()))] {
        assert_eq!(access(token).unwrap().tokens[0].digest, digest);
    }
    for weak in ["", "hunter2", "has blanks in the middle", "ümläute sind kein ASCII"] {
        std::fs::write(&path, weak).unwrap();
        let error = access(token(Some(&path), None)).unwrap_err();
        assert!(error.0.contains("`ci`") && (weak.is_empty() || !error.0.contains(weak)), "{error}");
    }
    assert!(access(token(None, None)).is_err());
    assert!(access(token(Some(&path), Some(digest.to_hex().to_string()))).is_err());
    assert!(access(token(None, Some("xyz".into()))).is_err());
}

#[test]
fn data_may_lie_anywhere_only_where_nobody_is_told_apart() {
    let here = tempfile::tempdir().unwrap();
    let roots = |text: &str| {
        let over = ServeOverrides { insecure: true, ..ServeOverrides::default() };
        load(text, over).unwrap().roots(here.path())
    };
    let under_here = DataRoots::under(&[here.path().into()]).unwrap();
    assert_eq!(roots("").unwrap(), DataRoots::Anywhere);
    assert_eq!(roots("listen = \"0.0.0.0:1\"").unwrap(), under_here);
    assert_eq!(roots("[[tokens]]\nname = \"a\"\nrole = \"read\"\nblake3 = \"\"").unwrap(), under_here);
    let other = tempfile::tempdir().unwrap();
    let text = format!("data_roots = [{:?}]", other.path());
    assert_eq!(roots(&text).unwrap(), DataRoots::under(&[other.path().into()]).unwrap());
    assert!(roots("data_roots = [\"/no/such/folder\"]").unwrap_err().0.contains("/no/such/folder"));
}
