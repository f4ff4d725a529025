//! `resty-mtls explain`: what would happen to a request, step by step, and why.

use std::cell::RefCell;
use std::io::{self, Write};
use std::path::Path;

use super::address_guard::{parse_network, AddressGuard};
use super::arguments::{Arguments, Opt};
use super::blocks_file;
use super::certificate_file::{in_file, read_entries, PASSWORD};
use super::fetch::fetch;
use super::input::time_or_now;
use super::output::{printable, write_json};
use super::progress::Progress;
use super::request::{
    certificate_of, explanation_json, host_variable, lacks_route, load_engine, parse_header,
    read_document, read_file, server_name_of, text,
};
use super::{Command, Streams, BAD_INPUT, JSON, OK, REFUSED};
use crate::certificate::Certificate;
use crate::engine::{
    Engine, Explanation, FetchSettings, Probe, PublishedDocuments, RevocationSource,
};

const ROUTE: &str = "--route";
const SNI: &str = "--sni";
const HOST: &str = "--host";
const CERT: &str = "--cert";
const HEADER: &str = "--header";
const JWKS: &str = "--jwks";
const DISCOVERY: &str = "--discovery";
const TIME: &str = "--time";
const BLOCKS: &str = "--blocks";
const ONLINE: &str = "--online";
const FETCH_ALLOW: &str = "--fetch-allow";

/// Characters of a line of text.
const WIDTH: usize = 100;

pub(super) const COMMAND: Command = Command {
    name: "explain",
    operands: "POLICY",
    summary: "explain whether a client would be let in, and what would repair it",
    help: help_with_policy!("\
Decides about one request as the gateway would with POLICY (a file or directory;
- is standard input), by the same functions, on a TLS connection in memory, and
prints each step: whether a certificate is requested and by which plugin, which
path was built or where it failed, revocation, consumer, groups, rules, and the
headers for the upstream. A step that refuses has a remedy.

Revocation is decided by the local CRLs and lists of POLICY, and a step names
the sources that the gateway would ask. With --online they are asked from here,
over http only and without a proxy, and a step of each has its answer. Nothing
else is fetched. What is blocked at runtime counts with --blocks. Not known here
are the certificate of the server (By= of XFCC), bundles of trust domains by
URL, introspection and DPoP of tokens, CORS preflights and TLS early data."),
    options: &[
        Opt::with_value(
            ROUTE,
            "NAME",
            "the route; without it only the global plugins decide",
        ),
        Opt::with_value(
            SNI,
            "NAME",
            "the server name of the handshake; by default --host,\nor the first of the route's snis",
        ),
        Opt::with_value(
            HOST,
            "NAME",
            "the Host of the request; by default the server name",
        ),
        Opt::with_value(
            CERT,
            "FILE",
            "the certificate of the client, and behind it the\nintermediates that it sends: PEM, PKCS #7, PKCS #12\nor DER",
        ),
        PASSWORD,
        Opt {
            name: HEADER,
            value: "'NAME: VALUE'",
            repeated: true,
            help: "a header of the request, as from a peer in\ntrusted_ips; may be given several times",
        },
        Opt::with_value(JWKS, "FILE", "the keys of the issuer of its token"),
        Opt::with_value(DISCOVERY, "FILE", "the discovery document of that issuer"),
        Opt::with_value(
            TIME,
            "TIME",
            "2027-01-31T08:00:00Z, 2027-01-31 or seconds since\n1970; by default now",
        ),
        Opt::with_value(
            BLOCKS,
            "FILE",
            "the blocks in force, as GET /mtls/blocks lists them",
        ),
        Opt::flag(
            ONLINE,
            "ask the OCSP responders and fetch the CRLs that the\ngateway would; not with --time",
        ),
        Opt {
            name: FETCH_ALLOW,
            value: "CIDR",
            repeated: true,
            help: "loopback, link-local and other special addresses\nto which URLs of the certificate may lead, as\nfetch_allow of mtls.init; may be given several times",
        },
        JSON,
    ],
    statuses: &[
        (OK, "the request is let in"),
        (BAD_INPUT, "the policy or another file cannot be used"),
        (REFUSED, "it is refused"),
    ],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let [policy] = arguments.operands.as_slice() else {
        let count = arguments.operands.len();
        let message = format!("{count} files, expected one policy");
        return streams.misuse(COMMAND.name, &message);
    };
    if *policy == "-" && arguments.value(CERT).is_some_and(|cert| cert == "-") {
        let message = "'-' twice, expected at most one file in standard input";
        return streams.misuse(COMMAND.name, message);
    }
    let request = match Request::new(arguments) {
        Ok(request) => request,
        Err(message) => return streams.misuse(COMMAND.name, &message),
    };
    let mut progress = Progress::new(COMMAND.name);
    let engine = match load_engine(policy, streams, &mut progress) {
        Ok(engine) => engine,
        Err(errors) => {
            for error in errors {
                writeln!(streams.err, "{error}")?;
            }
            return Ok(BAD_INPUT);
        }
    };
    if let Some(message) = lacks_route(&engine, ROUTE).filter(|_| request.route.is_none()) {
        return streams.misuse(COMMAND.name, &message);
    }
    let explanation = request
        .read_files(arguments, streams, &mut progress)
        .and_then(|files| request.block(&engine, arguments).map(|()| files))
        .and_then(|files| request.explain(&engine, &files, streams.err, progress));
    let explanation = match explanation {
        Ok(explanation) => explanation,
        Err(message) => {
            writeln!(
                streams.err,
                "resty-mtls: explain: {}",
                printable(message.as_bytes())
            )?;
            return Ok(BAD_INPUT);
        }
    };
    match arguments.has(JSON.name) {
        true => write_json(streams.out, &explanation_json(&explanation))?,
        false => print(&explanation, streams)?,
    }
    Ok(match explanation.allowed {
        true => OK,
        false => REFUSED,
    })
}

/// The options.
struct Request<'a> {
    route: Option<&'a str>,
    server_name: Option<&'a str>,
    host: Option<String>,
    headers: Vec<(String, String)>,
    time: i64,
    /// Which sources are asked; none without `--online`.
    online: Option<AddressGuard>,
}

/// The files that the options name.
struct RequestFiles {
    certificate: Option<Certificate>,
    keys: Option<Vec<u8>>,
    discovery: Option<Vec<u8>>,
}

impl<'a> Request<'a> {
    fn new(arguments: &'a Arguments) -> Result<Request<'a>, String> {
        let value = |name| text(name, arguments.value(name));
        let mut headers = Vec::new();
        for line in arguments.values(HEADER) {
            let line = text(HEADER, Some(line))?.unwrap_or_default();
            headers.push(parse_header(line).map_err(|why| format!("{HEADER}: {why}"))?);
        }
        let time = time_or_now(TIME, arguments.value(TIME))?;
        let mut guard = AddressGuard::default();
        for network in arguments.values(FETCH_ALLOW) {
            let network = text(FETCH_ALLOW, Some(network))?.unwrap_or_default();
            let network = parse_network(network).map_err(|why| {
                format!("{FETCH_ALLOW}: {why}: '{}'", printable(network.as_bytes()))
            })?;
            guard.allow.push(network);
        }
        let is_online = arguments.has(ONLINE);
        if is_online && arguments.has(TIME) {
            // They sign what holds now.
            return Err(format!(
                "{TIME}: not with {ONLINE}, whose answers are of now"
            ));
        }
        if arguments.has(PASSWORD.name) && !arguments.has(CERT) {
            return Err(format!("{}: only with {CERT}", PASSWORD.name));
        }
        if arguments.has(FETCH_ALLOW) && !is_online {
            return Err(format!("{FETCH_ALLOW}: only with {ONLINE}"));
        }
        Ok(Request {
            route: value(ROUTE)?,
            server_name: value(SNI)?,
            host: value(HOST)?.map(host_variable),
            headers,
            time,
            online: is_online.then_some(guard),
        })
    }

    /// Puts the blocks of [`BLOCKS`] in force.
    fn block(&self, engine: &Engine, arguments: &Arguments) -> Result<(), String> {
        let Some(path) = arguments.value(BLOCKS).map(Path::new) else {
            return Ok(());
        };
        let bytes = read_file(path, blocks_file::MAX_FILE)?;
        blocks_file::put_in_force(engine, &bytes, self.time)
            .map_err(|why| format!("{}: {why}", path.display()))
    }

    fn read_files(
        &self,
        arguments: &Arguments,
        streams: &mut Streams,
        progress: &mut Progress,
    ) -> Result<RequestFiles, String> {
        let path = |name| arguments.value(name).map(Path::new);
        let password_file = arguments.value(PASSWORD.name);
        let certificate = arguments.value(CERT).map(|file| {
            let (entries, _) = read_entries(file, password_file, streams, progress)?;
            certificate_of(entries).map_err(|why| in_file(file, &why))
        });
        Ok(RequestFiles {
            certificate: certificate.transpose()?,
            keys: path(JWKS).map(read_document).transpose()?,
            discovery: path(DISCOVERY).map(read_document).transpose()?,
        })
    }

    fn explain(
        &self,
        engine: &Engine,
        files: &RequestFiles,
        err: &mut (dyn Write + Send),
        progress: Progress,
    ) -> Result<Explanation, String> {
        let headers = self.headers.iter();
        let headers: Vec<(&[u8], &[u8])> = headers
            .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
            .collect();
        let keys: Vec<&[u8]> = files.keys.as_deref().into_iter().collect();
        let has_documents = files.keys.is_some() || files.discovery.is_some();
        let of_route = server_name_of(engine, self.route);
        let host = self.host.as_deref();
        let server_name = self.server_name.or(host).or(of_route.as_deref());
        let host = host.or(server_name).unwrap_or_default();
        let progress = &RefCell::new((progress, err));
        let fetch_by_http = self.online.as_ref().map(|guard| {
            move |source: &RevocationSource, settings: &FetchSettings| {
                let (progress, err) = &mut *progress.borrow_mut();
                let (RevocationSource::Ocsp { url, .. } | RevocationSource::Crl { url }) = source;
                let what = format!("waiting for {}", printable(url.as_bytes()));
                progress.during(*err, &what, || fetch(guard, source, settings))
            }
        });
        let probe = Probe {
            route: self.route,
            server_name: server_name.map(str::as_bytes),
            host: host.as_bytes(),
            certificate: files.certificate.as_ref(),
            headers: &headers,
            issuer: has_documents.then_some(PublishedDocuments {
                discovery: files.discovery.as_deref(),
                keys: &keys,
            }),
            now: self.time,
            fetch: fetch_by_http.as_ref().map(|fetch| fetch as _),
        };
        engine.explain(&probe).map_err(|error| error.to_string())
    }
}

fn print(explanation: &Explanation, streams: &mut Streams) -> io::Result<()> {
    for step in &explanation.steps {
        let mark = match step.ok {
            Some(true) => "ok    ",
            Some(false) => "FAIL  ",
            None => "?     ",
        };
        let text = format!("{}: {}", step.step, step.detail);
        print_wrapped(streams.out, mark, &text)?;
        if let Some(remedy) = &step.remedy {
            print_wrapped(streams.out, "      ", &format!("remedy: {remedy}"))?;
        }
    }
    let Explanation {
        status,
        decision,
        verdict,
        ..
    } = explanation;
    let outcome = match explanation.allowed {
        true => "let in",
        false => "refused",
    };
    let text = format!("status {status}, decision {decision}, verdict {verdict}");
    print_wrapped(streams.out, "", &format!("{outcome}: {text}"))?;
    if let Some(reason) = &explanation.reason {
        print_wrapped(streams.out, "", &format!("reason: {reason}"))?;
    }
    if let Some(consumer) = &explanation.consumer {
        print_wrapped(streams.out, "", &format!("consumer: {consumer}"))?;
    }
    if !explanation.groups.is_empty() {
        let groups = explanation.groups.join(", ");
        print_wrapped(streams.out, "", &format!("groups: {groups}"))?;
    }
    if let Some(rule) = &explanation.rule {
        let name = rule.rule.as_ref().map(|name| format!(" rule '{name}'"));
        let at = rule.at.as_ref().map(|at| format!(" at {at}"));
        let text = [name, at].into_iter().flatten().collect::<String>();
        print_wrapped(
            streams.out,
            "",
            &format!("decided by: {}{text}", rule.plugin),
        )?;
    }
    for (name, value) in &explanation.headers {
        // One line each, to be compared with what an upstream receives.
        let (name, value) = (printable(name.as_bytes()), printable(value.as_bytes()));
        writeln!(streams.out, "{name}: {value}")?;
    }
    Ok(())
}

/// Prints text in lines of at most [`WIDTH`] characters, further ones indented.
fn print_wrapped(out: &mut dyn Write, first: &str, text: &str) -> io::Result<()> {
    let mut line = first.to_owned();
    let mut is_empty = true;
    for word in printable(text.as_bytes()).split(' ') {
        if !is_empty && line.chars().count() + 1 + word.chars().count() > WIDTH {
            writeln!(out, "{line}")?;
            line = "      ".to_owned();
            is_empty = true;
        }
        if !is_empty {
            line.push(' ');
        }
        line.push_str(word);
        is_empty = false;
    }
    writeln!(out, "{line}")
}

#[cfg(test)]
mod tests {
    use super::super::tests::run_with;
    use crate::testing::{issue, NOW};

    /// Runs `explain` on a policy with a CA, of which it gives a client a certificate.
    fn explain(name: &str, rest: &str, args: &[&str]) -> (u8, String, String) {
        let id = std::process::id();
        let path = std::env::temp_dir().join(format!("resty-mtls-explain-{name}-{id}"));
        std::fs::create_dir_all(&path).unwrap();
        let root = issue("Root", None, true, 60, &[]);
        let client = issue("client", Some(&root), false, 60, &[]);
        let ca = String::from_utf8(root.x509.to_pem().unwrap()).unwrap();
        let text = format!(
            "_format_version: '3.0'\nca_certificates:\n- {{id: {CA}, cert: {ca:?}}}\n{rest}"
        );
        let (policy, cert) = (path.join("p.yaml"), path.join("client.pem"));
        std::fs::write(&policy, text).unwrap();
        std::fs::write(&cert, client.x509.to_pem().unwrap()).unwrap();
        let (policy, cert) = (policy.to_str().unwrap(), cert.to_str().unwrap());
        let time = NOW.to_string();
        let fixed = ["explain", policy, "--cert", cert, "--time", &time];
        let (status, out, err) = run_with(&[&fixed, args].concat());
        std::fs::remove_dir_all(&path).unwrap();
        (status, out, err.replace(policy, "POLICY"))
    }

    const CA: &str = "11111111-1111-4111-8111-111111111111";

    fn plugin() -> String {
        format!(
            "{{name: mtls-auth, config: {{ca_certificates: [{CA}], skip_consumer_lookup: true}}}}"
        )
    }

    fn route() -> String {
        let plugin = plugin();
        format!("routes: [{{name: api, snis: [api.test], plugins: [{plugin}]}}, {{name: open}}]\n")
    }

    #[test]
    fn explain_takes_a_host_without_its_port() {
        for host in ["api.test", "api.test:443", "API.test.:8443"] {
            let args = ["--route", "api", "--host", host];
            let (status, out, err) = explain("host", &route(), &args);
            assert_eq!((status, &*err), (0, ""), "{out}");
            assert!(
                out.contains("the Host 'api.test' is the server name"),
                "{out}"
            );
        }
        let args = ["--route", "api", "--host", "other.test:443"];
        let (status, out, _) = explain("other", &route(), &args);
        assert_eq!(status, 4, "{out}");
        assert!(
            out.contains("remedy: add 'other.test' to the snis of a route"),
            "{out}"
        );
    }

    #[test]
    fn explain_needs_a_route_unless_global_plugins_decide() {
        let message = "resty-mtls: explain: no --route, and the policy has no global plugin, \
                       expected 'api', 'open'; see resty-mtls explain --help\n";
        let found = explain("none", &route(), &["--host", "api.test"]);
        assert_eq!(found, (2, String::new(), message.to_owned()));
        let found = explain("nope", &route(), &["--route", "nope"]);
        let message = "resty-mtls: explain: no route 'nope' in the policy, expected 'api', \
                       'open'\n";
        assert_eq!(found, (1, String::new(), message.to_owned()));

        let line = "ok    route: none is given: only the global plugins are judged\n";
        let global = format!("plugins: [{}]\nroutes: [{{name: api}}]\n", plugin());
        let (status, out, err) = explain("global", &global, &["--host", "api.test"]);
        assert_eq!((status, &*err), (0, ""), "{out}");
        assert!(out.contains(line), "{out}");
        let (status, out, err) = explain("empty", "", &["--host", "api.test"]);
        assert_eq!((status, &*err), (0, ""), "{out}");
        assert!(out.contains(line), "{out}");
    }
}
