//! The command `resty-mtls`.

use std::ffi::OsString;
use std::io;
use std::process::ExitCode;

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let (stdin, stdout, stderr) = (io::stdin(), io::stdout(), io::stderr());
    let status = resty_mtls::command::run(&args, &mut stdin.lock(), &mut stdout.lock(), &mut {
        stderr
    });
    match status {
        Ok(status) => status.into(),
        // Standard output or error is closed (`| head`), so no message can be written.
        Err(_) => ExitCode::FAILURE,
    }
}
