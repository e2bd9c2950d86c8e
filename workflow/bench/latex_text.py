"""Text as LaTeX source in ASCII: Greek letters, mathematical signs and accents included."""

import unicodedata

from bench.render import TEX

SMALL = "alpha beta gamma delta varepsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau varphi chi psi"
SMALL += " omega"
CAPITAL = "Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega"
SIGNS = {
    **dict(zip("αβγδεζηθικλμνξπρστφχψω", SMALL.split(), strict=True)),
    **dict(zip("ΓΔΘΛΞΠΣΦΨΩ", CAPITAL.split(), strict=True)),
    **{"ϕ": "phi", "ϵ": "epsilon", "∞": "infty", "≤": "leq", "≥": "geq", "≈": "approx", "≠": "neq", "×": "times"},
    **{"·": "cdot", "⋅": "cdot", "±": "pm", "→": "to", "←": "leftarrow", "↦": "mapsto", "∈": "in", "√": "surd"},
    **{"∑": "sum", "‖": "|", "⊙": "odot", "∇": "nabla", "ℓ": "ell", "∂": "partial", "∼": "sim", "≪": "ll", "≫": "gg"},
}
"""Character → name of its command in mathematics."""
RAISED = dict(zip("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵀⁿ", [*"0123456789+-", r"\top", "n"], strict=True))
LOWERED = dict(zip("₀₁₂₃₄₅₆₇₈₉₊₋ₙₖᵢⱼ", "0123456789+-nkij", strict=True))
WORDS = {"–": "--", "—": "---", "…": r"\ldots{}", "‘": "`", "’": "'", "“": "``", "”": "''", "−": "$-$"}
WORDS |= {"‡": r"\textsuperscript{\ddag}", "°": r"$^{\circ}$", "\u00a0": "~", "\u2009": r"\,", "\u202f": r"\,"}


def tex(text: str) -> str:
    """Plain text as LaTeX source in ASCII."""
    return ascii_tex(text.translate(TEX))


def ascii_tex(source: str) -> str:
    """LaTeX source in ASCII: other characters become commands, lose their accents, or are named by their code."""
    return "".join(character if character.isascii() else _command(character) for character in source)


def _command(character: str) -> str:
    if character in SIGNS:
        return rf"\ensuremath{{\{SIGNS[character]}}}"
    if character in RAISED:
        return rf"\ensuremath{{^{{{RAISED[character]}}}}}"
    if character in LOWERED:
        return rf"\ensuremath{{_{{{LOWERED[character]}}}}}"
    if character in WORDS:
        return WORDS[character]
    plain = unicodedata.normalize("NFKD", character).encode("ascii", "ignore").decode("ascii")
    return plain.translate(TEX) if plain else rf"\texttt{{U+{ord(character):04X}}}"
