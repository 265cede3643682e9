"""The demo: real flights, loaded month by month into a warehouse through Dagster."""
