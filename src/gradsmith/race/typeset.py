"""Tables for papers and for pages: LaTeX and Markdown."""

from collections.abc import Iterable, Sequence

LATEX = {
    "\\": r"\textbackslash{}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "{": r"\{",
    "}": r"\}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "±": r"$\pm$",
    "µ": r"\textmu{}",
}


def latex(heads: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    r"""A table with the rules of the package booktabs, the first column to the left.

    Examples:
        >>> print(latex(["entry", "loss"], [["my_step", "1.96 ± 0.02"]], "Losses"))
        \begin{table}
          \caption{Losses}
          \begin{tabular}{lr}
            \toprule
            entry & loss \\
            \midrule
            my\_step & 1.96 $\pm$ 0.02 \\
            \bottomrule
          \end{tabular}
        \end{table}
    """
    row = lambda texts: f"    {' & '.join(map(_in_latex, texts))} \\\\"
    return "\n".join(
        [
            r"\begin{table}",
            rf"  \caption{{{_in_latex(caption)}}}",
            rf"  \begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
            r"    \toprule",
            row(heads),
            r"    \midrule",
            *map(row, lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
        ]
    )


def _in_latex(text: str) -> str:
    return "".join(LATEX.get(letter, letter) for letter in text)


def markdown(heads: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    r"""A table under its caption, the first column to the left.

    Examples:
        >>> print(markdown(["entry", "loss"], [["a|b", "1.96"]], "Losses"))
        Losses
        <BLANKLINE>
        | entry | loss |
        |---|---:|
        | a\|b | 1.96 |
    """
    row = lambda texts: f"| {' | '.join(text.replace('|', chr(92) + '|') for text in texts)} |"
    rule = f"|---|{'---:|' * (len(heads) - 1)}"
    return "\n".join([caption, "", row(heads), rule, *map(row, lines)])
