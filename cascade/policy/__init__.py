"""Policies as files: `loading` reads YAML strictly, `editing` changes it in place, `plans` binds a policy to its parts.

`checks`, `patterns`, `pricing`, `budgets`, `graders` and `certificates` are those parts; `shipped` finds the files that come
with `cascade`.
"""
