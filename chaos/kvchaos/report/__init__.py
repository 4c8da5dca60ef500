"""The page of a run: `results.json`, `pacelc.json` and the histories beside them as one HTML file that needs nothing else.

`evidence` reads the files, `series`, `faults_told` and `freshness` say what a history shows in numbers, `plots` and
`freshness_plot` draw it, `drawing` makes vector graphics that take their colours (`palette`) from the page, `views` put everything
into a `page_view` for `templates`, in `words`, `page` writes it, and `making` is what commands call. Works from files alone, so
that a page can be made again later. Needs the extra `report` (matplotlib, jinja2), which nothing imports before that.
"""
