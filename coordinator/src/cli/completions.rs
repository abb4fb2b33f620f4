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
    fn bash_takes_its_completions_and_they_name_every_command() {
        let mut text = Vec::new();
        clap_complete::generate(Shell::Bash, &mut super::super::Cli::command(), "coordinator", &mut text);
        let text = String::from_utf8(text).unwrap();
        for command in super::super::Cli::command().get_subcommands() {
            assert!(text.contains(command.get_name()), "{}", command.get_name());
        }
        let checked = std::process::Command::new("bash").args(["-n", "-c", &text]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    }
}
