"""`tessera server`: a Prefect server with everything in it that a team needs, and workers, as one command.

What it puts there is in files of the repository: deployments (prefect.yaml) and automations (automations.yaml).
"""
