-- Waits for the beginning of a request's body: see beginning.rs, which sets ENOUGH, a number of bytes, in a line before this.

local function await_beginning(request)
  local received = 0
  for chunk in request:bodyChunks() do
    received = received + chunk:length()
    if received >= ENOUGH then break end
  end
  -- Envoy looks for a route again, which has no time limit.
  request:clearRouteCache()
end
