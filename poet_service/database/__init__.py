"""The state of the service: one SQL database, SQLite or PostgreSQL, behind one Store.

engine        open_store: a URL becomes a Store, migrated and ready
transactions  Database: one transaction at a time a call, retried where that is safe
failures      what a database can say no to, as ServiceError
tables        the tables, and schema: the migrations that make them
store         Store: every question and every change, and nobody else speaks SQL
"""
