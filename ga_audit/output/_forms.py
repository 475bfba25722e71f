"""The bug-report forms of four projects: their fields, in their order, and what stands in each.

As the forms are in the projects' `.github/ISSUE_TEMPLATE` (read in 2026: TRL, axolotl and LLaMA-Factory at their newest
commit of July and August, transformers as its releases since 2022 have had it). GitHub turns a form into Markdown with a
heading for each field, so a text of these headings reads like an issue that was filed by the form, and each part can be
pasted into the form's field. Boxes that only the one who files can tick are left open.
"""

from __future__ import annotations

NO_RESPONSE = "_No response_"  # what GitHub writes for a field that was left empty

# heading of a field -> name of the part of the report that stands there, or the text itself
FORMS: dict[str, tuple[tuple[str, str], ...]] = {
    "transformers": (
        ("System Info", "system"),
        ("Who can help?", NO_RESPONSE),
        ("Information", "- [ ] The official example scripts\n- [ ] My own modified scripts"),
        ("Tasks", "- [ ] An officially supported task in the `examples` folder (such as GLUE/SQuAD, ...)\n"
                  "- [ ] My own task or dataset (give details below)"),
        ("Reproduction", "current reproduction"),
        ("Expected behavior", "expected"),
    ),
    "trl": (
        ("Reproduction", "current reproduction expected"),
        ("System Info", "system"),
        ("Checklist", "- [ ] I have checked that my issue isn't already filed\n"
                      "- [ ] I have included my system information\n"
                      "- [ ] Any code provided is minimal, complete, and reproducible\n"
                      "- [ ] Any code provided is properly formatted in code blocks\n"
                      "- [ ] Any traceback provided is complete"),
    ),
    "axolotl": (
        ("Please check that this issue hasn't been reported before.",
         "- [ ] I searched previous Bug Reports didn't find any similar reports."),
        ("Expected Behavior", "expected"),
        ("Current behaviour", "current"),
        ("Steps to reproduce", "reproduction"),
        ("Config yaml", "config"),
        ("Possible solution", "solution"),
        ("Which Operating Systems are you using?", "- [ ] Linux\n- [ ] macOS\n- [ ] Windows"),
        ("Python Version", "python"),
        ("axolotl branch-commit", "release"),
        ("Acknowledgements", "- [ ] My issue title is concise, descriptive, and in title casing.\n"
                             "- [ ] I have searched the existing issues to make sure this bug has not been reported yet.\n"
                             "- [ ] I am using the latest version of axolotl.\n"
                             "- [ ] I have provided enough information for the maintainers to reproduce and diagnose the "
                             "issue."),
    ),
    "llamafactory": (
        ("Reminder", "- [ ] I have read the above rules and searched the existing issues."),
        ("System Info", "system"),
        ("Reproduction", "current reproduction"),
        ("Others", "expected"),
    ),
}  # fmt: skip
