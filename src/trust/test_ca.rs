//! A CA for tests of revocation, which uses the `openssl` command: it issues certificates, signs
//! CRLs and answers OCSP requests. All are valid now.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use openssl::x509::X509;

use crate::certificate::serial;

/// Seconds since the epoch.
pub fn now() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs() as i64
}

/// A certificate and its files.
pub struct IssuedFiles {
    pub x509: X509,
    /// Path of the files without `.pem` and `.key`.
    pub file: String,
}

/// The CA. Its directory has `ca.pem`, `ca.key`, `index.txt` and the issued certificates.
pub struct TestCa {
    dir: PathBuf,
    pub x509: X509,
    issued: Cell<u32>,
}

impl Drop for TestCa {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

impl TestCa {
    /// A root CA.
    pub fn new() -> TestCa {
        TestCa::root("Test CA", "critical,keyCertSign,cRLSign")
    }

    /// A root CA with this common name and key usage.
    pub fn root(cn: &str, key_usage: &str) -> TestCa {
        let dir = new_directory();
        let config = format!(
            "[req]\ndistinguished_name = dn\nx509_extensions = ca\n[dn]\n[ca]\n{CA}\n\
             keyUsage = {key_usage}\n"
        );
        fs::write(dir.join("req.cnf"), config).unwrap();
        let subject = format!("/O=Example/CN={cn}");
        openssl(
            &dir,
            &format!("req -x509 -config req.cnf {NEW_KEY} -keyout ca.key -out ca.pem -days 3650"),
            &["-subj", &subject],
        );
        TestCa::in_directory(dir)
    }

    /// A CA that this one issues.
    pub fn sub_ca(&self, cn: &str) -> TestCa {
        let key_identifier = "authorityKeyIdentifier = keyid";
        let issued = self.issue(
            cn,
            &format!("{CA}\n{key_identifier}\nkeyUsage = keyCertSign, cRLSign"),
        );
        let dir = new_directory();
        for kind in ["pem", "key"] {
            fs::copy(
                format!("{}.{kind}", issued.file),
                dir.join(format!("ca.{kind}")),
            )
            .unwrap();
        }
        TestCa::in_directory(dir)
    }

    fn in_directory(dir: PathBuf) -> TestCa {
        let x509 = X509::from_pem(&fs::read(dir.join("ca.pem")).unwrap()).unwrap();
        fs::write(dir.join("index.txt"), "").unwrap();
        TestCa {
            dir,
            x509,
            issued: Cell::new(0),
        }
    }

    /// Issues a certificate for one day with these extensions, as in a section of openssl.cnf.
    pub fn issue(&self, cn: &str, extensions: &str) -> IssuedFiles {
        let number = self.issued.get() + 1;
        self.issued.set(number);
        let name = number.to_string();
        let subject = format!("/O=Example/CN={cn}");
        fs::write(self.path("ext.cnf"), extensions).unwrap();
        openssl(
            &self.dir,
            &format!("req -new {NEW_KEY} -keyout {name}.key -out {name}.csr"),
            &["-subj", &subject],
        );
        openssl(
            &self.dir,
            &format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -days 1 -extfile ext.cnf -out {name}.pem"),
            &["-set_serial", &(1000 + number).to_string()],
        );
        IssuedFiles {
            x509: X509::from_pem(&self.read(&format!("{name}.pem"))).unwrap(),
            file: self.path(&name).to_str().unwrap().to_owned(),
        }
    }

    /// Adds the certificate to the CA's database: `V` valid, `R` revoked (with the revocation date
    /// and reason in the format of `openssl ca`).
    pub fn add_to_database(&self, certificate: &X509, state: char, revoked: &str) {
        let serial = serial::hex(certificate.serial_number());
        let mut index = fs::read_to_string(self.path("index.txt")).unwrap();
        index.push_str(&format!(
            "{state}\t491231235959Z\t{revoked}\t{serial}\tunknown\t/CN=x\n"
        ));
        fs::write(self.path("index.txt"), index).unwrap();
    }

    /// Adds revoked certificates with these serial numbers, in hexadecimal, to the CA's database.
    pub fn add_serials_to_database(&self, serials: impl Iterator<Item = String>) {
        let mut index = fs::read_to_string(self.path("index.txt")).unwrap();
        index.extend(
            serials.map(|serial| {
                format!("R\t491231235959Z\t260101000000Z\t{serial}\tunknown\t/CN=x\n")
            }),
        );
        fs::write(self.path("index.txt"), index).unwrap();
    }

    /// Path of the CA's own files, like [`IssuedFiles::file`].
    pub fn file(&self) -> String {
        self.path("ca").to_str().unwrap().to_owned()
    }

    /// The response of `openssl ocsp` with the certificate and key of `signer`.
    pub fn ocsp(&self, request: &[u8], signer: &str, options: &[&str]) -> Vec<u8> {
        fs::write(self.path("request.der"), request).unwrap();
        openssl(
            &self.dir,
            &format!(
                "ocsp -index index.txt -CA ca.pem -rsigner {signer}.pem -rkey {signer}.key \
                 -reqin request.der -respout response.der"
            ),
            options,
        );
        self.read("response.der")
    }

    /// A CRL of the database in PEM, valid for a day, with these CRL extensions as in a section of
    /// openssl.cnf.
    pub fn crl(&self, extensions: &str, options: &[&str]) -> Vec<u8> {
        fs::write(
            self.path("ca.cnf"),
            format!(
                "[ca]\ndefault_ca = test\n[test]\ndatabase = index.txt\ncertificate = ca.pem\n\
                 private_key = ca.key\ndefault_md = sha256\ndefault_crl_days = 1\n[crl]\n\
                 authorityKeyIdentifier = keyid\n{extensions}\n"
            ),
        )
        .unwrap();
        openssl(
            &self.dir,
            "ca -gencrl -config ca.cnf -crlexts crl -out crl.pem",
            options,
        );
        self.read("crl.pem")
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.path(name)).unwrap()
    }
}

const NEW_KEY: &str = "-nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256";
const CA: &str = "basicConstraints = critical, CA:TRUE\nsubjectKeyIdentifier = hash";

fn new_directory() -> PathBuf {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("resty-mtls-{}-{count}", std::process::id()));
    fs::create_dir(&dir).unwrap();
    dir
}

/// Runs `openssl` with `arguments`, which are split at blanks, and `unsplit`.
fn openssl(dir: &Path, arguments: &str, unsplit: &[&str]) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .args(unsplit)
        .current_dir(dir)
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "openssl {arguments} {unsplit:?}: {stderr}"
    );
}
