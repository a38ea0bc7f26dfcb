from vkd.training import presets as presets  # so that settings know their presets
