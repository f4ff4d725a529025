//! Ingresses -> hosts with what protects them. What ingress-nginx refuses stays refused: where a
//! setting cannot be carried over and would let in more clients, its host is left out.

use std::collections::{BTreeMap, BTreeSet};

use super::manifests::{is_dns_name, HttpPath, Ingress, Located, Manifests, Rule, Secret};
use crate::command::ca::CaEntries;
use crate::command::output::printable;

/// Annotations about client certificates, without the prefix.
const SECRET: &str = "auth-tls-secret";
const VERIFY_CLIENT: &str = "auth-tls-verify-client";
const VERIFY_DEPTH: &str = "auth-tls-verify-depth";
const ERROR_PAGE: &str = "auth-tls-error-page";
const PASS_CERTIFICATE: &str = "auth-tls-pass-certificate-to-upstream";
const MATCH_CN: &str = "auth-tls-match-cn";
const KNOWN: [&str; 6] = [
    SECRET,
    VERIFY_CLIENT,
    VERIFY_DEPTH,
    ERROR_PAGE,
    PASS_CERTIFICATE,
    MATCH_CN,
];

/// Other annotations that restrict access, beside those that [`restricts_access`] finds by their form.
const RESTRICTING: [&str; 4] = [
    "whitelist-source-range",
    "allowlist-source-range",
    "denylist-source-range",
    "satisfy",
];
/// Annotations that restrict access unless they are `false`.
const RESTRICTING_SWITCHES: [&str; 3] = [
    "enable-modsecurity",
    "enable-owasp-core-rules",
    "enable-global-auth",
];

/// ingress-nginx's own default.
const DEFAULT_DEPTH: u32 = 1;
/// Largest `verify_depth` of a policy.
const MAX_DEPTH: u32 = 100;
/// Longest error page, in bytes.
const MAX_ERROR_PAGE: usize = 2000;
/// Most common names of one annotation.
const MAX_NAMES: usize = 1000;

/// `auth-tls-verify-client`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum VerifyClient {
    On,
    Off,
    Optional,
    OptionalNoCa,
}

/// `auth-tls-error-page`, in characters that mean nothing to nginx.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ErrorPage {
    /// A URL of http or https.
    Redirect(String),
    /// A path of the host, which is served to refused clients.
    Path(String),
}

impl ErrorPage {
    /// `None` for anything else.
    fn parse(text: &str) -> Option<ErrorPage> {
        let is_url = |byte: u8| is_plain(byte) || b"?!&()*,=%[]".contains(&byte);
        let scheme = text.split_once("://").map(|(scheme, host)| {
            let known = ["http", "https"].iter();
            let is_known = known
                .into_iter()
                .any(|name| scheme.eq_ignore_ascii_case(name));
            is_known && host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[')
        });
        match scheme {
            _ if text.len() > MAX_ERROR_PAGE || !text.bytes().all(is_url) => None,
            Some(true) => Some(ErrorPage::Redirect(text.to_owned())),
            None if is_path(text) && !text.starts_with("//") => {
                Some(ErrorPage::Path(text.to_owned()))
            }
            _ => None,
        }
    }
}

/// Whether a byte of a path means nothing to nginx.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-_.~@:+".contains(&byte)
}

fn is_path(text: &str) -> bool {
    text.starts_with('/') && text.bytes().all(is_plain)
}

/// The settings of an Ingress about client certificates, which apply to all of its hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ClientAuth {
    pub verify: VerifyClient,
    pub depth: u32,
    pub passes_certificate: bool,
    /// Common names that are let in; `None` for all.
    pub common_names: Option<Vec<String>>,
    /// Positions of the CAs in [`Import::cas`].
    pub cas: Vec<usize>,
    /// The name of the file of CRLs in [`Import::crls`].
    pub crls: Option<String>,
    /// What clients without an accepted certificate get.
    pub error_page: Option<ErrorPage>,
}

/// A server.
pub(super) struct Host {
    pub auth: ClientAuth,
    /// Where the annotation is.
    secret: Located,
    /// The location, its directive's argument, and the upstream; by location, in order.
    pub locations: BTreeMap<String, String>,
    /// The Secret of its server certificate.
    pub server_certificate: Option<String>,
    /// The upstream of an error page that is a path.
    pub error_upstream: Option<String>,
}

/// The result of an import.
#[derive(Default)]
pub(super) struct Import {
    pub cas: CaEntries,
    pub hosts: BTreeMap<String, Host>,
    /// Hosts that cannot be carried over.
    pub left_out: BTreeSet<String>,
    /// Files of CRLs by name.
    pub crls: BTreeMap<String, Vec<u8>>,
    /// Upstreams: the Service and its port by the upstream's name.
    pub upstreams: BTreeMap<String, (String, String)>,
    /// What is not carried over, or only in another way: one line each.
    pub notes: Vec<String>,
    /// Positions in `cas` by the name of the Secret; `None` for one that cannot be used.
    secrets: BTreeMap<(String, String), Option<Vec<usize>>>,
}

impl Import {
    /// Converts all Ingresses with client certificates.
    pub fn of(manifests: &Manifests) -> Import {
        let mut import = Import::default();
        for ingress in &manifests.ingresses {
            if let Some(secret) = ingress.annotations.get(SECRET) {
                import.settings(manifests, ingress, secret);
            } else if let Some((name, value)) = ingress
                .annotations
                .iter()
                .find(|(name, _)| KNOWN.contains(&name.as_str()) && name.as_str() != SECRET)
            {
                let position = &value.position;
                import.notes.push(format!(
                    "{position}: '{name}' has no effect without '{SECRET}'"
                ));
            }
        }
        // A server has the settings of the Ingress that has them, for the paths of all others too.
        for ingress in &manifests.ingresses {
            if !ingress.annotations.contains_key(SECRET) {
                import.settings_of_paths(ingress);
            }
        }
        let left_out = &import.left_out;
        import.hosts.retain(|host, _| !left_out.contains(host));
        for ingress in &manifests.ingresses {
            import.paths(ingress);
        }
        import.error_pages();
        import
    }

    /// Finds the upstream of each error page that is a path, and URLs that lead back to their host.
    fn error_pages(&mut self) {
        for (name, host) in &mut self.hosts {
            let position = &host.secret.position;
            let refuses = matches!(host.auth.verify, VerifyClient::On | VerifyClient::Optional);
            let path = match &host.auth.error_page {
                Some(ErrorPage::Path(path)) => path,
                Some(ErrorPage::Redirect(url)) if refuses && leads_to(url, name) => {
                    self.notes.push(format!(
                        "{position}: the error page '{url}' is on its own host, which redirects \
                         refused clients to it again: expected another host, or a path"
                    ));
                    continue;
                }
                _ => continue,
            };
            host.error_upstream = upstream_of(&host.locations, path).map(str::to_owned);
            if host.error_upstream.is_none() {
                self.notes.push(format!(
                    "{position}: the error page '{path}' is not carried over, since no path of the host \
                     serves it: refused clients get 401"
                ));
                host.auth.error_page = None;
            }
        }
    }

    fn note(&mut self, at: &Located, message: &str) {
        self.notes.push(format!("{}: {message}", at.position));
    }

    /// Reads the annotations of an Ingress and adds its hosts.
    fn settings(&mut self, manifests: &Manifests, ingress: &Ingress, secret: &Located) {
        let auth = match self.other_annotations(ingress) {
            true => None,
            false => self.client_auth(manifests, ingress, secret),
        };
        for rule in &ingress.rules {
            let host = &rule.host;
            if host.text.is_empty() {
                let message = "a rule without a host is not carried over: write a server with \
                               'listen ... default_server' and a route without 'snis'";
                self.note(host, message);
                continue;
            }
            let parent = host.text.strip_prefix("*.").unwrap_or(&host.text);
            if !is_dns_name(parent) {
                let message = format!("'{}' is not a host name, and left out", host.shown());
                self.note(host, &message);
                continue;
            }
            let Some(auth) = &auth else {
                self.leave_out(host);
                continue;
            };
            match self.hosts.get(&host.text) {
                Some(other) if other.auth != *auth => {
                    let message = format!(
                        "the host '{}' has other settings at {}, of which ingress-nginx would \
                         use those of the older Ingress: the host is left out, expected one of \
                         them",
                        host.shown(),
                        other.secret.position
                    );
                    self.note(host, &message);
                    self.left_out.insert(host.text.clone());
                }
                Some(_) => {}
                None => {
                    let host = host.text.clone();
                    self.hosts.insert(
                        host,
                        Host {
                            auth: auth.clone(),
                            secret: secret.clone(),
                            locations: BTreeMap::new(),
                            server_certificate: None,
                            error_upstream: None,
                        },
                    );
                }
            }
        }
    }

    fn leave_out(&mut self, host: &Located) {
        let message = format!("the host '{}' is left out", host.shown());
        self.note(host, &message);
        self.left_out.insert(host.text.clone());
    }

    /// Reads the annotations of an Ingress that adds paths to hosts of other ones.
    fn settings_of_paths(&mut self, ingress: &Ingress) {
        let is_kept = |host: &Located, import: &Import| {
            import.hosts.contains_key(&host.text) && !import.left_out.contains(&host.text)
        };
        let mut hosts = ingress.rules.iter().map(|rule| &rule.host);
        if !hosts.any(|host| is_kept(host, self)) || !self.other_annotations(ingress) {
            return;
        }
        for Rule { host, .. } in &ingress.rules {
            if is_kept(host, self) {
                self.leave_out(host);
            }
        }
    }

    /// Reports the annotations about other things, and returns whether one of them restricts access.
    fn other_annotations(&mut self, ingress: &Ingress) -> bool {
        let mut restricts = false;
        for (name, value) in &ingress.annotations {
            if KNOWN.contains(&name.as_str()) {
                continue;
            }
            let shown = printable(name.as_bytes());
            let message = match restricts_access(name, value.text.trim()) {
                true => {
                    restricts = true;
                    format!("'{shown}' restricts access, and is not carried over")
                }
                false => format!("'{shown}' is not carried over"),
            };
            self.note(value, &message);
        }
        restricts
    }

    /// `None` if a setting cannot be carried over.
    fn client_auth(
        &mut self,
        manifests: &Manifests,
        ingress: &Ingress,
        secret: &Located,
    ) -> Option<ClientAuth> {
        let annotation = |name| ingress.annotations.get(name);
        let mut verify = match annotation(VERIFY_CLIENT) {
            None => VerifyClient::On,
            Some(value) => match value.text.trim() {
                "on" => VerifyClient::On,
                "off" => VerifyClient::Off,
                "optional" => VerifyClient::Optional,
                "optional_no_ca" => VerifyClient::OptionalNoCa,
                _ => {
                    let message = format!(
                        "'{}' is no value of '{VERIFY_CLIENT}': taken for 'on', as \
                         ingress-nginx does",
                        value.shown()
                    );
                    self.note(value, &message);
                    VerifyClient::On
                }
            },
        };
        if let Some(value) = annotation(VERIFY_CLIENT) {
            match verify {
                VerifyClient::On => {}
                VerifyClient::Off => self.note(
                    value,
                    "clients are not authenticated, as with ingress-nginx: 'off'",
                ),
                VerifyClient::Optional => self.note(
                    value,
                    "clients without a certificate are let in, as with ingress-nginx: \
                     'optional'; the upstream must check ssl-client-verify",
                ),
                VerifyClient::OptionalNoCa => self.note(
                    value,
                    "clients are let in whatever their certificate, as with ingress-nginx: \
                     'optional_no_ca'; the upstream must check ssl-client-verify",
                ),
            }
        }
        let common_names = match annotation(MATCH_CN) {
            Some(value) if verify != VerifyClient::Off => {
                let Some(names) = common_names(value.text.trim()) else {
                    let message = format!(
                        "'{}' is not carried over, expected 'CN=NAME' or 'CN=(NAME|NAME)': write \
                         a rule of client-cert-acl",
                        value.shown()
                    );
                    self.note(value, &message);
                    return None;
                };
                let message = "the common name must now be equal to one of these, where \
                               ingress-nginx searches them anywhere in the subject";
                self.note(value, message);
                if verify != VerifyClient::On {
                    let message = "clients need a trusted certificate now, since a name in \
                                   another one proves nothing";
                    self.note(value, message);
                    verify = VerifyClient::On;
                }
                Some(names)
            }
            _ => None,
        };
        let depth = match annotation(VERIFY_DEPTH).map(|value| (value, value.text.trim().parse())) {
            None => DEFAULT_DEPTH,
            // ingress-nginx takes 0 for no value.
            Some((_, Ok(0))) => DEFAULT_DEPTH,
            Some((_, Ok(depth @ 1..=MAX_DEPTH))) => depth,
            Some((value, _)) => {
                let message = format!(
                    "'{}' is not a number from 1 to {MAX_DEPTH}: {DEFAULT_DEPTH} is used",
                    value.shown()
                );
                self.note(value, &message);
                DEFAULT_DEPTH
            }
        };
        let error_page = annotation(ERROR_PAGE).and_then(|value| {
            let page = ErrorPage::parse(value.text.trim());
            let message = match page {
                Some(_) => {
                    "the error page needs the option refusals = \"nginx\" of mtls.init, see the head \
                     of servers.conf; without it, refused clients get 401"
                        .to_owned()
                }
                None => format!(
                    "the error page '{}' is not carried over, expected a URL of http or https, or \
                     a path: refused clients get 401",
                    value.shown()
                ),
            };
            self.note(value, &message);
            page
        });
        let passes = annotation(PASS_CERTIFICATE).map(|value| value.text.trim() == "true");
        let (cas, crls) = self.secret(manifests, ingress, secret)?;
        Some(ClientAuth {
            verify,
            depth,
            passes_certificate: passes.unwrap_or(false),
            common_names,
            cas,
            crls,
            error_page,
        })
    }

    /// The CAs of a Secret, and its CRLs.
    fn secret(
        &mut self,
        manifests: &Manifests,
        ingress: &Ingress,
        secret: &Located,
    ) -> Option<(Vec<usize>, Option<String>)> {
        let text = secret.text.trim();
        let Some((namespace, name)) = text.split_once('/') else {
            let namespace = &ingress.namespace;
            let message = format!(
                "'{}' has no namespace, expected '{namespace}/NAME': ingress-nginx refuses all \
                 requests",
                secret.shown()
            );
            self.note(secret, &message);
            return None;
        };
        let key = (namespace.to_owned(), name.to_owned());
        let Some(found) = manifests.secrets.get(&key) else {
            let message = format!(
                "the Secret '{}' is in none of the files, expected it in one of them",
                secret.shown()
            );
            self.note(secret, &message);
            return None;
        };
        let crls = found.values.get("ca.crl").map(|(_, crls)| {
            let file = format!("{namespace}.{name}.crl.pem");
            self.crls.insert(file.clone(), crls.clone());
            file
        });
        if let Some(cas) = self.secrets.get(&key) {
            return Some((cas.clone()?, crls));
        }
        let cas = self.ca_certificates(found);
        self.secrets.insert(key, cas.clone());
        Some((cas?, crls))
    }

    fn ca_certificates(&mut self, secret: &Secret) -> Option<Vec<usize>> {
        let Some((position, bytes)) = secret.values.get("ca.crt") else {
            let position = &secret.position;
            self.notes.push(format!(
                "{position}: the Secret has no 'ca.crt', which ingress-nginx needs"
            ));
            return None;
        };
        let warn = &mut |warning: String| self.notes.push(warning);
        let in_secret = |line| format!("{position}: line {line} of 'ca.crt'");
        match self.cas.add(bytes, in_secret, warn) {
            Err(error) => self.notes.push(format!("{position}: 'ca.crt' {error}")),
            Ok(cas) if cas.is_empty() => {
                self.notes.push(format!("{position}: 'ca.crt' has no CA"));
            }
            Ok(cas) => return Some(cas),
        }
        None
    }

    /// Adds the paths of an Ingress to the hosts.
    fn paths(&mut self, ingress: &Ingress) {
        let is_regex = ["use-regex", "rewrite-target"]
            .iter()
            .find_map(|name| ingress.annotations.get(*name))
            .filter(|value| value.text != "false");
        for rule in &ingress.rules {
            if !self.hosts.contains_key(&rule.host.text) {
                continue;
            }
            for path in &rule.paths {
                let added = match is_regex {
                    Some(_) => Err("its Ingress has regular expressions or rewrites"),
                    None => self.location(ingress, &rule.host.text, path),
                };
                if let Err(why) = added {
                    let message = format!(
                        "the path '{}' is not carried over: {why}; write a location",
                        path.path.shown()
                    );
                    self.note(&path.path, &message);
                }
            }
            for (hosts, secret) in &ingress.tls {
                let (Some(secret), Some(host)) = (secret, self.hosts.get_mut(&rule.host.text))
                else {
                    continue;
                };
                if hosts.contains(&rule.host.text) && host.server_certificate.is_none() {
                    let name = format!("{}/{}", ingress.namespace, secret.shown());
                    let message = format!(
                        "the server certificate of '{}' is in the Secret '{name}': write it to \
                         files, and name them in its server block",
                        rule.host.text
                    );
                    host.server_certificate = Some(name);
                    self.note(secret, &message);
                }
            }
        }
    }

    fn location(
        &mut self,
        ingress: &Ingress,
        host: &str,
        path: &HttpPath,
    ) -> Result<(), &'static str> {
        let (service, port) = path.service.as_ref().ok_or("its backend is no Service")?;
        let text = path.path.text.as_str();
        if !is_path(text) {
            return Err("it has characters other than letters, digits and /-_.~@:+");
        }
        let upstream = format!("{}.{service}.{port}", ingress.namespace);
        let prefix = text.trim_end_matches('/');
        let locations = match (path.path_type.as_str(), prefix) {
            ("Exact", _) => vec![format!("= {text}")],
            // /a matches /a and what is below it, and not /ab.
            ("Prefix", "") => vec!["/".to_owned()],
            ("Prefix", prefix) => vec![format!("= {prefix}"), format!("{prefix}/")],
            _ => vec![text.to_owned()],
        };
        let service = format!("{}/{service}", ingress.namespace);
        self.upstreams
            .insert(upstream.clone(), (service, port.clone()));
        let Some(host) = self.hosts.get_mut(host) else {
            return Ok(());
        };
        for location in locations {
            match host.locations.get(&location) {
                Some(other) if *other != upstream => {
                    return Err("it is there with another Service");
                }
                _ => host.locations.insert(location, upstream.clone()),
            };
        }
        Ok(())
    }
}

/// Whether a URL is one of the server that is made for a host.
fn leads_to(url: &str, host: &str) -> bool {
    let Some((scheme, rest)) = url.split_once("://") else {
        return false;
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let name = authority.strip_suffix(":443").unwrap_or(authority);
    scheme.eq_ignore_ascii_case("https") && name.eq_ignore_ascii_case(host)
}

/// The upstream of the location that serves a path: the one for it alone, or the longest prefix.
fn upstream_of<'l>(locations: &'l BTreeMap<String, String>, path: &str) -> Option<&'l str> {
    if let Some(upstream) = locations.get(&format!("= {path}")) {
        return Some(upstream);
    }
    let prefixes = locations.iter();
    let prefixes = prefixes.filter(|(location, _)| path.starts_with(location.as_str()));
    let longest = prefixes.max_by_key(|(location, _)| location.len());
    longest.map(|(_, upstream)| upstream.as_str())
}

/// Whether clients that ingress-nginx refuses for this annotation could be let in without it.
fn restricts_access(name: &str, value: &str) -> bool {
    name.starts_with("auth-")
        || name.ends_with("-snippet")
        || RESTRICTING.contains(&name)
        || RESTRICTING_SWITCHES.contains(&name) && value != "false"
}

/// The names of `CN=NAME` or `CN=(NAME|NAME)`, also with `^` and `$`; `None` for another regular
/// expression. A point counts as a point.
fn common_names(regex: &str) -> Option<Vec<String>> {
    let text = regex.strip_prefix('^').unwrap_or(regex);
    let text = text.strip_suffix('$').unwrap_or(text);
    let names = text.strip_prefix("CN=")?;
    let names = match names.strip_prefix('(') {
        Some(names) => names.strip_suffix(')')?,
        // Without parentheses, `|` separates regular expressions.
        None if names.contains('|') => return None,
        None => names,
    };
    let names: Vec<String> = names
        .split('|')
        .map(|name| name.replace("\\.", "."))
        .collect();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b" -_.@:/=&'~!%".contains(&byte);
    let is_name =
        |name: &String| !name.is_empty() && name.trim() == name && name.bytes().all(is_plain);
    (names.len() <= MAX_NAMES && names.iter().all(is_name)).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_names_are_those_of_alternatives_without_patterns() {
        for (regex, names) in [
            ("CN=ann", &["ann"][..]),
            ("^CN=ann$", &["ann"]),
            (
                "CN=(ann|bob.example.com|c\\.d)",
                &["ann", "bob.example.com", "c.d"],
            ),
        ] {
            assert_eq!(common_names(regex).unwrap(), names, "{regex}");
        }
        for regex in [
            "",
            "ann",
            "CN=",
            "CN=()",
            "CN=(a|)",
            "CN=.*",
            "CN=a|CN=b",
            "CN=a|b",
            "CN=(a|b",
            "CN=a+",
            "CN=[ab]",
            "CN=a\\d",
            "CN=(a)(b)",
            "O=x,CN=a",
            "CN=a,O=x",
            "CN=a\nb",
            "CN= a",
            "cn=a",
            "CN=a?",
            "CN=ä",
            "CN=(?i)a",
            "CN=a$b",
        ] {
            assert_eq!(common_names(regex), None, "{regex}");
        }
    }
}
