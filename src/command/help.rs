//! `resty-mtls help`: what `--help` prints.

use std::io;

use super::arguments::Arguments;
use super::{command_usage, unknown, usage, Command, Streams, COMMANDS, OK};

pub(super) const COMMAND: Command = Command {
    name: "help",
    operands: "[COMMAND]",
    summary: "show this help, or that of a command",
    help: "\
Prints what resty-mtls --help prints, or resty-mtls COMMAND --help.",
    options: &[],
    statuses: &[(OK, "success")],
    run,
};

fn run(arguments: &Arguments, streams: &mut Streams) -> io::Result<u8> {
    let text = match arguments.operands.as_slice() {
        [] => usage(),
        [name] => match COMMANDS.iter().find(|command| *name == command.name) {
            Some(command) => command_usage(command),
            None => {
                let names: Vec<&str> = COMMANDS.iter().map(|command| command.name).collect();
                let message = format!("unknown command {}", unknown(name, &names));
                return streams.misuse(COMMAND.name, &message);
            }
        },
        names => {
            let message = format!("{} commands, expected one or none", names.len());
            return streams.misuse(COMMAND.name, &message);
        }
    };
    streams.out.write_all(text.as_bytes())?;
    Ok(OK)
}
