"""The dashboard's HTML: `texts` (figures as text), `charts` (geometry of the SVG), `frame` (what is around a page), `rendering` (jinja2).

Names and texts are hostile: templates escape everything, nothing is marked safe, and no style or script stands in a page.
"""
