"""A replay that judges the rules: what they find, how late, how often they are wrong, how often they notify.

    worlds        accounts, calm and with incidents, as the exporter would show them
    evaluate      the rules as arrays, for whole worlds at once; a test holds them against promtool
    compare       a world as a unit test for promtool
    notify        a model of Alertmanager with the example configuration; a test holds it against a real one
    judge         a perfect observer, and the tables
    false_alarms  how often a campaign's bound is wrong, exactly

``python -m grafana.rules.analysis`` prints the tables.
"""
