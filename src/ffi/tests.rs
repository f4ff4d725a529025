//! The C ABI as a whole: the generated files are current and have the layout of Rust, NULL
//! arguments are refused, panics are caught.

use std::collections::BTreeMap;
use std::fs;
use std::mem::{offset_of, size_of};
use std::path::{Path, PathBuf};
use std::ptr;

use super::*;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn header() -> String {
    let mut config = cbindgen::Config {
        language: cbindgen::Language::C,
        cpp_compat: true,
        documentation_style: cbindgen::DocumentationStyle::C99,
        include_guard: Some("RESTY_MTLS_H".to_owned()),
        usize_is_size_t: true,
        sys_includes: ["stddef.h", "stdint.h"].map(str::to_owned).to_vec(),
        no_includes: true,
        style: cbindgen::Style::Both,
        header: Some(
            "// C ABI of resty-mtls. Generated from src/ffi by `make header`; do not edit.\n\
             //\n\
             // Every function returns RMTLS_OK, a positive status that the caller must handle,\n\
             // or a negative fault. Handles belong to one thread."
                .to_owned(),
        ),
        ..cbindgen::Config::default()
    };
    config.function.sort_by = Some(cbindgen::SortKey::None);
    // The modules of mod.rs are read along with it.
    let builder = cbindgen::Builder::new()
        .with_config(config)
        .with_src(root().join("src/ffi/mod.rs"));
    let mut text = Vec::new();
    builder
        .generate()
        .expect("cbindgen reads src/ffi")
        .write(&mut text);
    String::from_utf8(text).expect("a header in UTF-8")
}

/// What LuaJIT's `ffi.cdef` reads: declarations only, constants as Lua.
fn cdef(header: &str) -> String {
    let mut constants = String::new();
    let mut declarations = String::new();
    let mut skipping_cpp = false;
    let mut blank = true;
    for line in header.lines() {
        let line = line.trim_end();
        if let Some(define) = line.strip_prefix("#define RMTLS_") {
            let (name, value) = define.split_once(' ').expect("a constant has a value");
            constants.push_str(&format!("    {name} = {value},\n"));
        } else if line.starts_with("#ifdef __cplusplus") {
            skipping_cpp = true;
        } else if line.starts_with("#endif") {
            skipping_cpp = false;
        } else if skipping_cpp || line.starts_with('#') || line.trim_start().starts_with("//") {
            continue;
        } else if !(line.is_empty() && blank) {
            declarations.push_str(line);
            declarations.push('\n');
            blank = line.is_empty();
        }
    }
    format!(
        "-- Declarations of libresty_mtls. Generated from src/ffi by `make header`; do not edit.\n\
         \n\
         require(\"ffi\").cdef [[\n{}\n]]\n\nreturn {{\n{constants}}}\n",
        declarations.trim()
    )
}

fn current(path: &Path, text: &str) {
    let path = root().join(path);
    if std::env::var_os("RMTLS_BLESS").is_some() {
        fs::write(&path, text).expect("the generated file can be written");
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "{} is not current: run `make header`",
        path.display()
    );
}

#[test]
fn generated_header_is_current() {
    current(Path::new("include/resty_mtls.h"), &header());
}

#[test]
fn generated_cdef_is_current() {
    current(
        Path::new("lua/resty/mtls/internal/cdef.lua"),
        &cdef(&header()),
    );
}

/// The fields of each struct of the header, by the name of the struct.
fn structs(header: &str) -> BTreeMap<String, Vec<String>> {
    let mut structs = BTreeMap::new();
    let mut fields: Option<Vec<String>> = None;
    for line in header.lines() {
        if line.starts_with("typedef struct") && line.ends_with('{') {
            fields = Some(Vec::new());
        } else if let Some(name) = line.strip_prefix("} rmtls_") {
            let fields = fields.take().expect("a struct that has begun");
            structs.insert(format!("rmtls_{}", name.trim_end_matches(';')), fields);
        } else if line.trim_start().starts_with("//") {
            continue;
        } else if let (Some(fields), Some(declaration)) = (&mut fields, line.strip_suffix(';')) {
            let name = declaration.rsplit([' ', '*']).next().unwrap_or_default();
            fields.push(name.split('[').next().unwrap_or_default().to_owned());
        }
    }
    structs
}

#[test]
fn generated_cdef_has_the_layout_of_rust() {
    use super::{
        access::{rmtls_decision, rmtls_lines},
        blocks::rmtls_block_times,
        crl_url::rmtls_crl_url,
        header_lines::rmtls_header_line,
        header_list::{rmtls_nginx_header, rmtls_nginx_list, rmtls_nginx_list_part},
        node::{rmtls_node_state, rmtls_worker_state},
        policy::rmtls_policy_status,
        request_header::rmtls_request_header,
        request_state::{rmtls_nginx_cleanup, rmtls_request_state},
        revocation::{rmtls_crl_summary, rmtls_fetch_options, rmtls_revocation_answer},
        token::{rmtls_dpop_request, rmtls_token_decision},
        token_options::rmtls_token_options,
    };
    /// Size of a struct, and the offset of each of its fields.
    type Layout = (usize, BTreeMap<String, usize>);
    let mut rust: BTreeMap<String, Layout> = BTreeMap::new();
    macro_rules! layout {
        ($name:ident { $($field:ident),* $(,)? }) => {
            rust.insert(
                stringify!($name).to_owned(),
                (
                    size_of::<$name>(),
                    [$((stringify!($field).to_owned(), offset_of!($name, $field))),*].into(),
                ),
            );
        };
    }
    layout!(rmtls_decision {
        decision,
        client,
        generation,
        verdict,
        identity,
        consumer,
        credential,
        forwards,
        connection,
        server_certificate,
        from_header,
        would_refuse,
        would_refuse_verdict,
        record,
        record_generation,
        lines_are_new,
        reports_expiry,
        not_after,
        changes,
    });
    layout!(rmtls_lines {
        bytes,
        ends,
        hashes,
        always,
        forwarding,
        left_out,
        left_out_kinds,
        may_append,
        owner,
    });
    layout!(rmtls_header_line {
        kind,
        name,
        name_len,
        value,
        value_len,
    });
    layout!(rmtls_nginx_header {
        hash,
        name_len,
        name,
        value_len,
        value,
        lower_case_name,
    });
    layout!(rmtls_nginx_list_part {
        headers,
        count,
        next,
    });
    layout!(rmtls_nginx_list {
        last,
        part,
        header_size,
        capacity,
        pool,
    });
    layout!(rmtls_nginx_cleanup {
        handler,
        data,
        next,
    });
    layout!(rmtls_request_state {
        request,
        owner,
        is_lost,
        record,
        extra,
        location,
        route,
        route_len,
        is_decided,
        is_allowed,
        status,
        lacks_headers,
        is_preflight,
        decision,
    });
    layout!(rmtls_buf { data, cap, len });
    layout!(rmtls_block_times { added, until });
    layout!(rmtls_worker_state {
        epoch,
        since,
        process,
        failed
    });
    layout!(rmtls_node_state { epoch, since });
    layout!(rmtls_policy_status {
        epoch,
        since,
        routes,
        server_names,
        certificate_requests,
        warnings,
        digest,
    });
    layout!(rmtls_request_header {
        name_len,
        name,
        value_len,
        value,
    });
    layout!(rmtls_revocation_answer {
        state,
        hold,
        until,
        this_update,
        next_update,
        crl_entries,
        crl_next_update,
    });
    layout!(rmtls_crl_summary {
        this_update,
        next_update,
        entries,
        bytes,
    });
    layout!(rmtls_fetch_options {
        http_timeout,
        status_wait,
        strict,
        ttl,
        ssl_verify,
        http_proxy_port,
        https_proxy_port,
        max_crl_bytes,
    });
    layout!(rmtls_crl_url {
        this_update,
        next_update,
        entries,
        bytes,
        refresh,
        max_bytes,
        http_timeout,
        ssl_verify,
        http_proxy_port,
        https_proxy_port,
    });
    layout!(rmtls_token_decision {
        decision,
        token,
        generation,
        id,
        challenge,
        proof_id,
        proof_expires,
        identity,
        consumer,
    });
    layout!(rmtls_dpop_request {
        proofs,
        proofs_len,
        method,
        method_len,
        uri,
        uri_len,
        nonce_key,
    });
    layout!(rmtls_token_options {
        needs_keys,
        client_auth,
        hide_credentials,
        expose_error_code,
        ssl_verify,
        timeout,
        rediscovery_lifetime,
        cache_ttl,
        certificate_plan,
        proof_of_possession,
        dpop,
        introspection_ssl_verify,
        anonymous,
    });
    // SAFETY: the LuaJIT libraries are loaded for `ffi`; only this chunk and the cdef run.
    let lua = unsafe { mlua::Lua::unsafe_new() };
    let path = format!("{}/lua/?.lua", root().display());
    let package: mlua::Table = lua.globals().get("package").unwrap();
    package.set("path", path).unwrap();
    let luajit: mlua::Table = lua
        .load("require 'resty.mtls.internal.cdef'; return require 'ffi'")
        .eval()
        .unwrap();
    let size_of: mlua::Function = luajit.get("sizeof").unwrap();
    let offset_of: mlua::Function = luajit.get("offsetof").unwrap();
    let mut c: BTreeMap<String, Layout> = BTreeMap::new();
    for (name, fields) in structs(&header()) {
        let offsets = fields.into_iter().map(|field| {
            let offset = offset_of.call((name.as_str(), field.as_str())).unwrap();
            (field, offset)
        });
        let offsets = offsets.collect();
        c.insert(name.clone(), (size_of.call(name).unwrap(), offsets));
    }
    assert_eq!(c, rust);
}

#[test]
fn guard_panic_becomes_status() {
    std::panic::set_hook(Box::new(|_| {}));
    assert_eq!(guard(|| panic!("a bug")), RMTLS_PANIC);
    let _ = std::panic::take_hook();
}

#[test]
fn guard_leaves_no_openssl_error_behind() {
    let code = guard(|| {
        openssl::x509::X509::from_der(b"no certificate").map_err(Error::from)?;
        Ok(())
    });
    assert_eq!(code, RMTLS_OPENSSL);
    assert!(openssl::error::ErrorStack::get().errors().is_empty());
}

#[test]
fn put_short_buffer_sets_the_bytes_needed() {
    for (cap, code, len) in [
        (0, RMTLS_TOO_SMALL, 5),
        (4, RMTLS_TOO_SMALL, 5),
        (5, RMTLS_OK, 5),
    ] {
        let mut memory = [0u8; 8];
        let mut buf = rmtls_buf {
            data: memory.as_mut_ptr(),
            cap,
            len: 99,
        };
        // SAFETY: the buffer has `cap` bytes.
        assert_eq!(guard(|| unsafe { put(&mut buf, b"hello") }), code);
        assert_eq!(buf.len, len);
        assert_eq!(memory[5..], [0; 3]);
    }
}

#[test]
fn put_truncated_cuts_at_a_character() {
    let mut memory = [0u8; 8];
    let mut buf = rmtls_buf {
        data: memory.as_mut_ptr(),
        cap: 2,
        len: 0,
    };
    // SAFETY: the buffer has `cap` bytes.
    unsafe { put_truncated(&mut buf, "a\u{17d}b") };
    assert_eq!((&memory[..buf.len], buf.len), (&b"a"[..], 1));
}

#[test]
fn exports_refuse_null() {
    macro_rules! null {
        () => {
            ptr::null_mut()
        };
    }
    // SAFETY: every one of these functions accepts NULL for every pointer.
    unsafe {
        use super::{
            access::*, blocks::*, bundles::*, certificate::*, certificate_spool::*, crl_url::*,
            engine::*, fleet::*, handshake::*, header_certificate::*, header_lines::*, lists::*,
            policy::*, request_state::*, reserved_headers::*, revocation::*, sni_map::*, token::*,
            trust_store::*,
        };
        let refusals = [
            rmtls_engine_new(null!()),
            rmtls_engine_install(null!()),
            rmtls_engine_current(null!()),
            rmtls_engine_load(null!(), null!(), 0, null!(), 0, null!()),
            rmtls_engine_load_file(null!(), null!(), 0, null!()),
            rmtls_engine_warning(null!(), 0, null!()),
            rmtls_engine_policy_status(null!(), null!()),
            rmtls_engine_plan(null!(), null!(), 0, null!()),
            rmtls_engine_client_hello(null!(), null!(), null!(), 0, null!()),
            rmtls_engine_request_certificate(null!(), null!(), null!()),
            rmtls_engine_is_outdated(null!(), null!(), null!()),
            rmtls_connection_watch(null!(), null!()),
            rmtls_engine_access(null!(), null!(), 0, null!(), 0, 0, null!(), null!()),
            rmtls_engine_bundle_url(null!(), 0, null!()),
            rmtls_engine_store_bundle(null!(), null!(), 0, null!(), 0, null!(), null!()),
            rmtls_engine_anchor(null!(), null!(), 0, 0, null!(), null!()),
            rmtls_engine_spiffe_id(null!(), null!(), 0, null!(), null!()),
            rmtls_engine_reserved_headers(null!(), null!(), 0, null!(), 0, null!()),
            rmtls_engine_changes(null!(), null!()),
            rmtls_engine_lines(null!(), null!(), null!()),
            rmtls_request_state_owner(null!()),
            rmtls_request_state_find(null!(), null!()),
            rmtls_request_state_keep_lines(null!(), null!()),
            rmtls_request_state_begin(null!(), 0, null!(), null!()),
            rmtls_request_state_set_record(null!(), 0),
            rmtls_request_state_take_over(null!(), 0),
            rmtls_request_state_new_extra(null!()),
            rmtls_request_state_released_table(null!()),
            rmtls_request_state_new_table(null!()),
            rmtls_request_state_uses(null!()),
            rmtls_engine_keep_with_record(null!(), 0, 0, 0),
            rmtls_engine_dropped_record(null!(), null!()),
            rmtls_engine_cloudflare(null!(), null!(), null!(), 0, 0, 0, null!()),
            rmtls_engine_header_value(
                null!(),
                null!(),
                null!(),
                0,
                0,
                null!(),
                0,
                null!(),
                0,
                0,
                null!(),
                null!(),
            ),
            rmtls_engine_xfcc(null!(), 0, null!(), null!(), 0, null!(), null!(), null!()),
            rmtls_connection_is_first(null!(), 1),
            rmtls_selector_normal_form(null!(), 0, null!(), null!()),
            rmtls_hmac_sha256(null!(), 0, null!(), 0, null!(), null!()),
            rmtls_engine_block(null!(), null!(), 0, null!(), 0, 0, 0, 0, null!()),
            rmtls_engine_unblock(null!(), null!(), 0, 0, null!()),
            rmtls_engine_next_block(null!(), 0, null!(), null!(), null!(), null!()),
            rmtls_engine_save_blocks(null!(), 0, null!()),
            rmtls_engine_watch_lists(null!(), null!()),
            rmtls_engine_is_awaiting_lists(null!()),
            rmtls_engine_list_event(null!(), null!(), null!()),
            listing::rmtls_engine_list_routes(null!(), 0, 0, null!(), 0, null!()),
            listing::rmtls_engine_list_server_names(null!(), 0, 0, null!(), 0, null!()),
            rmtls_engine_list_state(null!(), 0, null!(), null!(), null!(), null!()),
            rmtls_engine_ending_list(null!(), 0, null!()),
            rmtls_engine_access_with_headers(
                null!(),
                null!(),
                0,
                null!(),
                0,
                null!(),
                0,
                0,
                0,
                null!(),
                null!(),
            ),
            rmtls_engine_unverified_certificate(null!(), null!(), 0, null!(), 0, 0, 0, null!()),
            rmtls_engine_check_token(
                null!(),
                null!(),
                0,
                null!(),
                0,
                null!(),
                null!(),
                0,
                0,
                0,
                0,
                null!(),
                null!(),
                null!(),
            ),
            rmtls_engine_set_issuer_documents(null!(), 0, null!(), 0, null!(), null!(), 0, null!()),
            rmtls_engine_set_introspection(
                null!(),
                0,
                null!(),
                0,
                null!(),
                0,
                0,
                null!(),
                null!(),
                null!(),
            ),
            token_options::rmtls_engine_token_options(null!(), 0, null!()),
            token_options::rmtls_engine_token_text(null!(), 0, 1, null!()),
            rmtls_engine_claim_headers(null!(), 0, 0, 0, null!(), null!()),
            rmtls_discovery_read(null!(), 0, null!(), 0, null!(), null!(), null!()),
            rmtls_certificate_from_header(null!(), 0, 0, null!(), 0, null!(), 0, null!(), null!()),
            rmtls_dpop_new_nonce_key(null!()),
            rmtls_engine_dpop_nonce(null!(), 0, null!(), 0, null!()),
            gzip::rmtls_gzip_decode(null!(), 0, 0, null!(), null!()),
            rmtls_engine_client_assertion(null!(), 0, 0, null!()),
            rmtls_jwks_check(null!(), 0, null!(), null!()),
            rmtls_engine_plan_flags(null!(), 0, null!()),
            rmtls_engine_read_header_name(null!(), 0, null!()),
            rmtls_header_lines_get(null!(), 0, null!()),
            rmtls_header_lines_until(null!(), null!()),
            rmtls_engine_group(null!(), 0, null!(), 0, null!()),
            rmtls_engine_consumer(null!(), 0, 1, null!()),
            rmtls_engine_fetch_options(null!(), 0, null!(), null!(), null!()),
            rmtls_engine_revocation_source(null!(), null!(), 0, 0, 0, 0, null!(), null!(), null!()),
            rmtls_engine_revocation_response(
                null!(),
                null!(),
                0,
                0,
                0,
                null!(),
                0,
                0,
                0,
                null!(),
                null!(),
            ),
            rmtls_ocsp_with_nonce(null!(), 1, null!()),
            rmtls_engine_take_refresh(null!(), ptr::null_mut(), ptr::null_mut(), ptr::null_mut()),
            rmtls_engine_forget_statuses(null!()),
            rmtls_engine_forget_tokens(null!()),
            rmtls_engine_write_answer(null!(), null!(), 1, null!(), 1, null!(), 1, 0, null!()),
            rmtls_engine_answer_write_error(null!(), null!()),
            rmtls_engine_set_certificate_spool(null!(), null!(), 1, 1, 1, null!()),
            rmtls_engine_certificate_spool_usage(null!(), null!(), null!()),
            rmtls_engine_certificate_spool_warning(null!(), null!()),
            rmtls_answer_bytes(null!(), null!(), null!()),
            rmtls_engine_revocation_issuer(null!(), null!(), 0, 0, 0, null!()),
            rmtls_engine_read_answer(null!(), null!(), 1, null!()),
            rmtls_engine_set_revocation_status(null!(), null!(), 0, 0, 0, 0, 0),
            rmtls_engine_revocation_status_key(null!(), null!(), 0, 0, 0, null!()),
            rmtls_engine_crl_in_use(null!(), 0, null!(), null!(), null!()),
            rmtls_engine_tls_client(null!(), null!(), null!()),
            rmtls_engine_crl_url(null!(), 0, null!(), null!(), null!()),
            rmtls_engine_crl_url_proxies(null!(), 0, null!(), null!()),
            rmtls_crl_body_new(1, null!()),
            rmtls_crl_body_append(null!(), null!(), 0),
            rmtls_engine_load_crl_url(null!(), 0, 0, null!(), null!(), 0, 0, null!(), null!()),
            rmtls_certificate_from_pem(null!(), 1, ptr::null_mut(), null!()),
            rmtls_certificate_get(null!(), 1, null!()),
            rmtls_certificate_validity(null!(), null!(), null!()),
            rmtls_certificate_subject(null!(), 0, null!(), null!()),
            rmtls_certificate_san(null!(), 0, null!(), null!()),
            rmtls_certificate_header_lines(null!(), null!(), 0, 0, 0, null!(), null!()),
            rmtls_trust_store_new(null!(), 1, 0, -1, -1, ptr::null_mut(), null!()),
            rmtls_verdict_text(0, null!()),
            rmtls_trust_store_verify(null!(), null!(), 0, null!(), null!()),
            rmtls_sni_map_new(null!()),
            rmtls_sni_map_add(null!(), null!(), 0, 0, 0, ptr::null(), 0, 0, null!()),
            rmtls_sni_map_build(null!()),
            rmtls_sni_map_get(null!(), null!(), 0, null!()),
            rmtls_sni_map_client_hello(null!(), null!(), null!(), 0, null!()),
            rmtls_sni_map_request_certificate(null!(), null!()),
            rmtls_sni_map_check_binding(null!(), null!(), null!(), 0, null!()),
        ];
        for (index, code) in refusals.into_iter().enumerate() {
            assert!(
                code == RMTLS_NULL_ARGUMENT || code == RMTLS_NOT_FOUND,
                "call {index} returned {code}"
            );
        }
        assert_eq!(
            rmtls_certificate_from_ssl(null!(), null!()),
            RMTLS_NOT_FOUND
        );
        rmtls_engine_free(null!());
        rmtls_header_lines_free(null!());
        rmtls_certificate_free(null!());
        rmtls_crl_body_free(null!());
        rmtls_trust_store_free(null!());
        rmtls_sni_map_free(null!());
    }
}
