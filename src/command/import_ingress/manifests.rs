//! Ingresses and Secrets of Kubernetes, from manifests in YAML or JSON.

use std::collections::BTreeMap;
use std::fmt;
use std::rc::Rc;

use base64::engine::general_purpose::STANDARD;
use base64::Engine as _;

use crate::command::output::printable;
use crate::policy::plain_yaml::{self, PlainYaml};

/// The prefix of ingress-nginx's annotations.
pub(super) const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// Deepest nesting of lists of resources.
const MAX_NESTED_LISTS: usize = 4;

/// A line of a file.
#[derive(Clone, Debug)]
pub(super) struct Position {
    file: Rc<str>,
    line: u32,
}

impl Position {
    fn of(file: &Rc<str>, node: &PlainYaml) -> Position {
        Position {
            file: file.clone(),
            line: node.line,
        }
    }
}

/// Writes `FILE:LINE`.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// A text and where it is.
#[derive(Clone, Debug)]
pub(super) struct Located {
    pub text: String,
    pub position: Position,
}

impl Located {
    /// The text in a message.
    pub fn shown(&self) -> String {
        printable(self.text.as_bytes())
    }
}

/// An Ingress.
pub(super) struct Ingress {
    pub namespace: String,
    /// Annotations of ingress-nginx by name, without [`PREFIX`].
    pub annotations: BTreeMap<String, Located>,
    pub rules: Vec<Rule>,
    /// Hosts and names of Secrets of `spec.tls`.
    pub tls: Vec<(Vec<String>, Option<Located>)>,
}

/// An entry of `spec.rules`.
pub(super) struct Rule {
    /// Empty without a host.
    pub host: Located,
    pub paths: Vec<HttpPath>,
}

/// An entry of `http.paths`.
pub(super) struct HttpPath {
    pub path: Located,
    /// `Exact`, `Prefix` or `ImplementationSpecific`.
    pub path_type: String,
    /// Name and port of a Service; `None` for a resource of another kind.
    pub service: Option<(String, String)>,
}

/// A Secret: its values, decoded.
pub(super) struct Secret {
    pub position: Position,
    pub values: BTreeMap<String, (Position, Vec<u8>)>,
}

/// What all files have.
#[derive(Default)]
pub(super) struct Manifests {
    pub ingresses: Vec<Ingress>,
    /// By namespace and name.
    pub secrets: BTreeMap<(String, String), Secret>,
}

impl Manifests {
    /// Reads the resources of a file.
    ///
    /// # Errors
    /// What is wrong, one line each.
    pub fn add(&mut self, file: &str, text: &str) -> Result<(), Vec<String>> {
        let documents = plain_yaml::read(file, text);
        let documents = documents
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<Vec<_>>())?;
        let file: Rc<str> = file.into();
        let mut errors = Vec::new();
        for document in &documents {
            self.resource(&file, document, 0, &mut errors);
        }
        match errors.is_empty() {
            true => Ok(()),
            false => Err(errors),
        }
    }

    fn resource(
        &mut self,
        file: &Rc<str>,
        node: &PlainYaml,
        level: usize,
        errors: &mut Vec<String>,
    ) {
        let position = Position::of(file, node);
        match text(node, "kind") {
            Some("Ingress") => match ingress(file, node) {
                Ok(ingress) => self.ingresses.push(ingress),
                Err(error) => errors.push(error),
            },
            Some("Secret") => match secret(file, node) {
                Ok((name, secret)) => {
                    let shown = format!("{}/{}", name.0, name.1);
                    if let Some(other) = self.secrets.insert(name, secret) {
                        let other = other.position;
                        errors.push(format!(
                            "{position}: the Secret {shown} is there twice, first at {other}"
                        ));
                    }
                }
                Err(error) => errors.push(error),
            },
            Some(kind) if kind.ends_with("List") && level < MAX_NESTED_LISTS => {
                for item in node.get("items").map_or(&[][..], PlainYaml::items) {
                    self.resource(file, item, level + 1, errors);
                }
            }
            Some(_) => {}
            None => errors.push(format!(
                "{position}: no 'kind', expected a resource of Kubernetes such as an Ingress"
            )),
        }
    }
}

fn text<'n>(node: &'n PlainYaml, key: &str) -> Option<&'n str> {
    node.get(key)?.text()
}

/// Namespace and name, which only have characters of DNS names.
fn names(file: &Rc<str>, node: &PlainYaml) -> Result<(String, Located), String> {
    let position = Position::of(file, node);
    let metadata = node.get("metadata");
    let name = metadata.and_then(|metadata| metadata.get("name"));
    let name = name
        .and_then(|name| {
            Some(Located {
                text: name.text()?.to_owned(),
                position: Position::of(file, name),
            })
        })
        .ok_or_else(|| format!("{position}: no 'metadata.name'"))?;
    let namespace = metadata.and_then(|metadata| text(metadata, "namespace"));
    let namespace = namespace.unwrap_or("default").to_owned();
    for text in [&name.text, &namespace] {
        if !is_dns_name(text) {
            let text = printable(text.as_bytes());
            return Err(format!("{position}: '{text}' is not a name of Kubernetes"));
        }
    }
    Ok((namespace, name))
}

/// Whether it may be the name of a resource, and so stand unquoted in nginx.conf and YAML.
pub(super) fn is_dns_name(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.".contains(&byte);
    (1..=253).contains(&text.len()) && text.bytes().all(is_allowed)
}

fn ingress(file: &Rc<str>, node: &PlainYaml) -> Result<Ingress, String> {
    let (namespace, _) = names(file, node)?;
    let located = |node: &PlainYaml| {
        Some(Located {
            text: node.text()?.to_owned(),
            position: Position::of(file, node),
        })
    };
    let annotations = node.get("metadata").and_then(|m| m.get("annotations"));
    let annotations = annotations.map_or(&[][..], PlainYaml::entries);
    let annotations = annotations
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?.to_owned(), located(value)?)));
    let spec = node.get("spec");
    let list = |key| {
        spec.and_then(|spec| spec.get(key))
            .map_or(&[][..], PlainYaml::items)
    };
    let rules = list("rules").iter().map(|rule| Rule {
        host: rule.get("host").and_then(located).unwrap_or(Located {
            text: String::new(),
            position: Position::of(file, rule),
        }),
        paths: rule
            .get("http")
            .and_then(|http| http.get("paths"))
            .map_or(&[][..], PlainYaml::items)
            .iter()
            .map(|path| http_path(file, path))
            .collect(),
    });
    let tls = list("tls").iter().map(|tls| {
        let hosts = tls.get("hosts").map_or(&[][..], PlainYaml::items);
        let hosts = hosts
            .iter()
            .filter_map(|host| Some(host.text()?.to_owned()));
        (hosts.collect(), tls.get("secretName").and_then(located))
    });
    Ok(Ingress {
        annotations: annotations.collect(),
        rules: rules.collect(),
        tls: tls.collect(),
        namespace,
    })
}

fn http_path(file: &Rc<str>, node: &PlainYaml) -> HttpPath {
    let backend = node.get("backend");
    let service = backend.and_then(|backend| match backend.get("service") {
        Some(service) => {
            let port = service.get("port")?;
            let port = text(port, "number").or_else(|| text(port, "name"))?;
            Some((text(service, "name")?.to_owned(), port.to_owned()))
        }
        // v1beta1
        None => Some((
            text(backend, "serviceName")?.to_owned(),
            text(backend, "servicePort")?.to_owned(),
        )),
    });
    HttpPath {
        path: Located {
            text: text(node, "path").unwrap_or("/").to_owned(),
            position: Position::of(file, node.get("path").unwrap_or(node)),
        },
        path_type: text(node, "pathType")
            .unwrap_or("ImplementationSpecific")
            .to_owned(),
        service: service.filter(|(name, port)| is_dns_name(name) && is_dns_name(port)),
    }
}

fn secret(file: &Rc<str>, node: &PlainYaml) -> Result<((String, String), Secret), String> {
    let (namespace, name) = names(file, node)?;
    let mut values = BTreeMap::new();
    for (key, value) in node.get("data").map_or(&[][..], PlainYaml::entries) {
        let position = Position::of(file, value);
        let text: String = value
            .text()
            .unwrap_or_default()
            .split_ascii_whitespace()
            .collect();
        let decoded = STANDARD.decode(text).map_err(|_| {
            let key = printable(key.as_bytes());
            format!("{position}: data.{key} is not base64")
        })?;
        values.insert(key.clone(), (position, decoded));
    }
    // It replaces what data has.
    for (key, value) in node.get("stringData").map_or(&[][..], PlainYaml::entries) {
        let text = value.text().unwrap_or_default();
        values.insert(
            key.clone(),
            (Position::of(file, value), text.as_bytes().to_vec()),
        );
    }
    let position = Position::of(file, node);
    Ok(((namespace, name.text), Secret { position, values }))
}
