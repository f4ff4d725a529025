//! The command `resty-mtls`.

use std::ffi::OsString;
use std::io::{self, ErrorKind, Write};
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (stdin, mut stdout, mut stderr) = (io::stdin(), io::stdout().lock(), io::stderr());
    let status = resty_mtls::command::run(&args, &mut stdin.lock(), &mut stdout, &mut stderr);
    let status = status.and_then(|status| stdout.flush().map(|()| status));
    match status {
        Ok(status) => status.into(),
        Err(error) => {
            // The reader of a closed pipe has seen enough (`| head`). Where standard error is what
            // cannot be written, nor can this message.
            if error.kind() != ErrorKind::BrokenPipe {
                let _ = writeln!(
                    stderr,
                    "resty-mtls: cannot write to standard output: {error}"
                );
            }
            ExitCode::FAILURE
        }
    }
}
