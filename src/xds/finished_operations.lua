-- Answers "has this operation finished?" (GetOperationStatus) again where Spark has just said so: see finished_operations.rs.
-- One copy of this program, with these variables, runs in each of Envoy's worker threads.

-- Milliseconds from a question that was checked and passed on to the next one.
local LIFETIME = 2000
-- Bytes. The question is a handle, and the answer a few numbers.
local LONGEST_QUESTION, LONGEST_ANSWER = 512, 1024
-- Bytes of what is remembered, twice.
local MOST_REMEMBERED = 4194304

-- Thrift's strict binary messages: version and type, name, sequence number, struct.
local CALL = "\128\1\0\1\0\0\0\18GetOperationStatus"
local REPLY = "\128\1\0\2\0\0\0\18GetOperationStatus"
local HEAD = #CALL + 4
-- {success: {status: {statusCode: SUCCESS_STATUS}, operationState: FINISHED_STATE, ...
local FINISHED = "\12\0\0\12\0\1\8\0\1\0\0\0\0\0\8\0\2\0\0\0\2"

-- Headers that differ between requests which are the same to us: Envoy and proxies number requests by them.
local NUMBERS = {
  ["x-request-id"] = true, ["traceparent"] = true, ["tracestate"] = true, ["x-amzn-trace-id"] = true,
  ["x-cloud-trace-context"] = true,
}

-- The last question of each connection, with its answer once there is one. What is old goes with `earlier`.
local current, earlier, since, bytes = {}, {}, 0, 0

-- Nil where a connection carries several requests at a time: a question would not be told from the next.
local function connection_of(handle)
  local info = handle:streamInfo()
  if info:protocol() ~= "HTTP/1.1" then return nil end
  return info:downstreamDirectRemoteAddress() .. " " .. info:downstreamLocalAddress()
end

local function last_of(connection)
  return current[connection] or earlier[connection]
end

local function forget(connection)
  current[connection], earlier[connection] = nil, nil
end

local function remember(connection, question, now)
  if now - since > LIFETIME or now < since or bytes > MOST_REMEMBERED then
    current, earlier, since, bytes = {}, current, now, 0
  end
  earlier[connection], current[connection] = nil, question
  bytes = bytes + #question.words
end

-- Nil for any other request. Either way the beginning of the request has come then.
local function body_of_question(request)
  local length = tonumber(request:headers():get("content-length") or "")
  if not length or length <= HEAD or length > LONGEST_QUESTION then
    await_beginning(request)
    return nil
  end
  local buffer = request:body()
  request:clearRouteCache()
  local body = buffer and buffer:getBytes(0, buffer:length())
  if body and body:sub(1, #CALL) == CALL then return body end
end

-- All by which the check, and Spark, could tell two questions apart. A header cannot hold a zero byte.
local function words_of(request, body)
  local words = {}
  for name, value in pairs(request:headers()) do
    if not NUMBERS[name] then
      words[#words + 1] = name
      words[#words + 1] = value
    end
  end
  words[#words + 1] = body:sub(HEAD + 1)
  return table.concat(words, "\0")
end

function envoy_on_request(request)
  local connection = connection_of(request)
  if not connection then return await_beginning(request) end
  local last = last_of(connection)
  -- Whatever else the client does may change the answer. It also takes the place of a question without one.
  forget(connection)
  local body = body_of_question(request)
  if not body then return end
  local words, now, number = words_of(request, body), request:timestamp(), body:sub(#CALL + 1, HEAD)
  local same = last and last.answer and last.words == words
  if same and now >= last.asked and now - last.asked < LIFETIME then
    current[connection] = last
    request:respond({[":status"] = "200", ["content-type"] = "application/x-thrift"}, REPLY .. number .. last.answer)
    return
  end
  remember(connection, {words = words, asked = now, number = number}, now)
end

function envoy_on_response(response)
  local connection = connection_of(response)
  local last = connection and last_of(connection)
  if not last or last.answer then return end
  local body = ""
  if response:headers():get(":status") == "200" then
    -- Chunk by chunk, as it goes to the client: a long one is neither held back nor refused.
    for chunk in response:bodyChunks() do
      body = body .. chunk:getBytes(0, chunk:length())
      if #body > LONGEST_ANSWER then break end
    end
  end
  local finished = REPLY .. last.number .. FINISHED
  if #body <= LONGEST_ANSWER and body:sub(1, #finished) == finished then
    last.answer = body:sub(HEAD + 1)
  elseif last_of(connection) == last then
    forget(connection)
  end
end
