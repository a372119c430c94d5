// The alerts, recording rules and dashboards for those who assemble them with jsonnet, as other mixins name them.
local groups(text) = std.parseYaml(text).groups;
{
  prometheusAlerts+:: { groups+: groups(importstr '../../grafana/rules/alerts.yaml') },
  prometheusRules+:: {
    groups+: groups(importstr '../../grafana/rules/limits.yaml')
             + groups(importstr '../../grafana/rules/recording.yaml'),
  },
  grafanaDashboards+:: {
    'intarget-overview.json': import '../../grafana/dashboards/intarget-overview.json',
    'intarget-campaign.json': import '../../grafana/dashboards/intarget-campaign.json',
    'intarget-conversions.json': import '../../grafana/dashboards/intarget-conversions.json',
    'intarget-exporter.json': import '../../grafana/dashboards/intarget-exporter.json',
  },
}
