"""Marks of tests that need a program which Python's package index does not have."""

import shutil

import browser
import pytest

BROWSER = pytest.mark.skipif(browser.find() is None, reason="needs Chromium or Chrome on the path")
LATEX = pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex (texlive-latex-recommended)")
