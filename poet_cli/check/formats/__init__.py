"""A report in the forms that people and machines read.

document   poet.check/1, the JSON document, and reading one back as a stranger's
human      the terminal: one table, and below it what to do for each failure
markdown   a comment on a pull request
junit, sarif, github   what CI systems show beside tests and lines of code
words      what all of them say in the same words
escape     text that others chose, for each of these
"""
