//! `coordinator completions`: for shells.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

/// Print a shell's completions
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  coordinator completions bash > ~/.local/share/bash-completion/completions/coordinator
  coordinator completions zsh > \"${fpath[1]}/_coordinator\"
  coordinator completions fish > ~/.config/fish/completions/coordinator.fish")]
pub(super) struct CompletionsArgs {
    shell: Shell,
}

pub(super) fn run(args: &CompletionsArgs) -> anyhow::Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(args.shell, &mut super::Cli::command(), "coordinator", &mut text);
    super::output::line(String::from_utf8(text)?.trim_end());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_completes_every_command() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut super::super::Cli::command(), "coordinator", &mut text);
        let mut script = String::from_utf8(text).unwrap();
        let bash = |args: &[&str], script: &str| {
            let done = std::process::Command::new("bash").args(args).args(["-c", script]).output().unwrap();
            assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
            String::from_utf8(done.stdout).unwrap()
        };
        bash(&["-n"], &script);
        // as the shell does for `coordinator <Tab>`
        script += "\nCOMP_WORDS=(coordinator '') COMP_CWORD=1; _coordinator coordinator '' coordinator\n\
                   printf '%s\\n' \"${COMPREPLY[@]}\"\n";
        let offered = bash(&[], &script);
        for command in super::super::Cli::command().get_subcommands() {
            assert!(offered.lines().any(|o| o == command.get_name()), "{} is not in {offered}", command.get_name());
        }
    }
}
