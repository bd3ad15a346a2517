"""The one background process of a host and catalog: journals into the catalog, upkeep, and its doorbell."""
