"""The method as pure functions of arrays (METHOD.md sections 3, 4); they know no network, config or mesh."""
