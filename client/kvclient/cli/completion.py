"""`kv completion`: the script that teaches a shell to complete `kv`, and the answers it then asks for.

zsh and fish take click's own script. bash cuts words at colons and equal signs, so that `user:1` would be three words: its script
hands the line over as it stands, and the answer is cut as bash cuts the word.
"""

from __future__ import annotations

import os
import re
from typing import Any

import click
from click.shell_completion import BashComplete, CompletionItem, add_completion_class, get_completion_class, split_arg_string

from kvclient.cli.exit_codes import ExitCode
from kvclient.cli.words import escaped, last_word_start

VARIABLE = "_KV_COMPLETE"
SHELLS = {
    "bash": "echo 'eval \"$(kv completion bash)\"' >> ~/.bashrc",
    "zsh": "echo 'eval \"$(kv completion zsh)\"' >> ~/.zshrc   (behind compinit)",
    "fish": "kv completion fish > ~/.config/fish/completions/kv.fish",
}

BASH = """\
%(complete_func)s() {
    local type value
    COMPREPLY=()
    while IFS=, read -r type value; do
        case $type in
            dir) compopt -o dirnames ;;
            file) compopt -o default ;;
            word) COMPREPLY+=("$value") ;;
        esac
    done < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1" 2>/dev/null)
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""


@click.command(short_help="Print the script that completes kv in a shell.")
@click.argument("shell", type=click.Choice(list(SHELLS)))
def completion(shell: str) -> int:
    """Print the script that completes kv in SHELL: commands and options, and from the cluster keys, namespaces and nodes."""
    from kvclient.cli.tree import root

    kind = get_completion_class(shell)
    assert kind is not None, "click knows every shell of SHELLS"
    click.echo(f"# kv in {shell}. To have it in every new shell:  {SHELLS[shell]}")
    click.echo(kind(root, {}, "kv", VARIABLE).source(), nl=False)
    return ExitCode.DONE


@add_completion_class
class WholeLineBashComplete(BashComplete):
    """click's, but with words that may hold colons, equal signs, quotes and blanks."""

    source_template = BASH

    def get_completion_args(self) -> tuple[list[str], str]:
        """The whole words before the cursor, and what the last one is so far."""
        line = os.environ["COMP_LINE"]
        start = last_word_start(line)
        return split_arg_string(line[:start])[1:], "".join(split_arg_string(line[start:]))

    def format_completion(self, item: CompletionItem[Any]) -> str:
        """`type,value`, the value as far as bash puts it in the place of what it takes for the last word."""
        if item.type != "plain":
            return f"{item.type},"
        line = os.environ["COMP_LINE"]
        typed = line[last_word_start(line) :]
        if typed[:1] in {'"', "'"}:
            return f"word,{item.value}"  # bash keeps the quote that was begun
        breaks = re.escape("".join(set(os.environ.get("COMP_WORDBREAKS", ":=")) - set(" \t\n\"'")))
        cut = re.match(rf"(?s).*(?<!\\)[{breaks}]", typed) if breaks else None
        return f"word,{escaped(str(item.value))[cut.end() if cut else 0 :]}"
