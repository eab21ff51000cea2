"""Tracing: model, loss, optimizer and one batch -> a program of ops on storages, each op measured."""
