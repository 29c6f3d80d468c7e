"""What people hand round: a run's findings as one document, written as HTML and as Markdown.

`findings` gathers what there is, each section makes its part of the `document`, `html` and
`markdown` write it; `pictures` keeps the figures as files.
"""
