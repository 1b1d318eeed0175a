"""The dashboard: a ledger's figures as pages, at the gateway's `/` and by `cascade dashboard`.

Read in this order: `values` (what a page is told), `figures/` (from the ledger's sums), `pages/` (HTML by jinja2, SVG), `app` (routes, live updates,
the mode switch). No figure is computed in a page.
"""
