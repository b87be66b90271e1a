-- Lets requests of the model `@{name}` through, and of no other: over gRPC the name is in the body.
-- Every field of the message is looked at, since the last of several names is the one that counts.
-- A batch of 0 or of more images than any server takes is refused: Triton takes some of them for 1.
-- So is what crashed or could crash older servers: deeply nested JSON, very many tensors, compressed
-- bodies, and tensors in shared memory.

local MODEL = "@{name}"
local MAX_SIDE = 65535
local MAX_DEPTH = 16  -- of JSON; a request needs 5
local MAX_PARTS = 256  -- objects and lists in JSON, or fields of a message
local MAX_DETAIL = 512  -- bytes of a tensor's parameters, or of an output
local SHARED = "shared_memory"

-- A number of protobuf's, from the first byte of `bytes` at `at`; nil when it is cut off or too long.
local function varint(bytes, at)
  local value, factor = 0, 1
  for offset = at, at + 9 do
    local byte = string.byte(bytes, offset)
    if byte == nil then return nil end
    value = value + (byte % 128) * factor
    if byte < 128 then return value, offset + 1 end
    factor = factor * 128
  end
  return nil
end

-- Whether each side in `bytes`, a shape of protobuf's varints, is from 1 to MAX_SIDE.
local function sides_are_plausible(bytes)
  local at = 1
  while at <= #bytes do
    local side, after = varint(bytes, at)
    if side == nil or side < 1 or side > MAX_SIDE then return false end
    at = after
  end
  return true
end

-- Whether the shape of an InferInputTensor of `size` bytes at `start` is plausible.
local function tensor_is_plausible(read, start, size)
  local at = 0
  while at < size do
    local head = read(start + at, math.min(20, size - at))
    local tag, rest = varint(head, 1)
    if tag == nil then return false end
    local field, kind = math.floor(tag / 8), tag % 8
    local length, after = varint(head, rest)
    if length == nil then return false end
    at = at + after - 1
    if kind == 0 then
      if field == 3 and (length < 1 or length > MAX_SIDE) then return false end
    elseif kind == 2 then
      if length > size - at then return false end
      if field == 3 and length > 0 and
        (length > 100 or not sides_are_plausible(read(start + at, length))) then return false end
      if field == 4 and
        (length > MAX_DETAIL or string.find(read(start + at, length), SHARED, 1, true)) then return false end
      at = at + length
    else
      return false
    end
  end
  return at == size
end

-- Whether JSON is no deeper and has no more parts than a request needs.
local function is_shallow(text)
  local depth, parts, at = 0, 0, string.find(text, "[%[%]{}]")
  while at do
    local byte = string.byte(text, at)
    if byte == 91 or byte == 123 then  -- [ or {
      depth, parts = depth + 1, parts + 1
      if depth > MAX_DEPTH or parts > MAX_PARTS then return false end
    else
      depth = depth - 1
      if depth < 0 then return false end
    end
    at = string.find(text, "[%[%]{}]", at + 1)
  end
  return true
end

-- Whether a request in JSON is one that a client of ours could write. It has no escapes but that of
-- a slash, which some writers of base64 use: another one would hide a word.
local function is_plausible_json(text)
  if string.find(text, "\\[^/]") or string.find(text, SHARED, 1, true) or not is_shallow(text) then
    return false
  end
  local at = string.find(text, '"shape"', 1, true)
  while at do
    local sides = string.match(text, "^%s*:%s*%[([^%]]*)%]", at + 7)
    for side in string.gmatch(sides or "", "[^,%s]+") do
      local number = string.match(side, "^%d+$") and tonumber(side)
      if not number or number < 1 or number > MAX_SIDE then return false end
    end
    at = string.find(text, '"shape"', at + 7, true)
  end
  return true
end

-- Whether a request names MODEL, and nothing else, and its tensors are plausible; `read(at, length)`
-- gives its bytes. The first field of all requests about a model is its name.
local function is_plausible(read, size)
  local at, named, parts = 0, false, 0
  while at < size do
    parts = parts + 1
    if parts > MAX_PARTS then return false end
    local head = read(at, math.min(20, size - at))
    local tag, rest = varint(head, 1)
    if tag == nil then return false end
    local field, kind = math.floor(tag / 8), tag % 8
    local length, after = varint(head, rest)
    if kind == 0 then
      if length == nil then return false end
      at = at + after - 1
    elseif kind == 2 then
      if length == nil or length > size - at then return false end
      if field == 1 then
        if length ~= #MODEL or read(at + after - 1, length) ~= MODEL then return false end
        named = true
      elseif field == 5 and not tensor_is_plausible(read, at + after - 1, length) then
        return false
      elseif field == 6 and  -- an output
        (length > MAX_DETAIL or string.find(read(at + after - 1, length), SHARED, 1, true)) then
        return false
      end
      at = at + after - 1 + length
    elseif kind == 1 then
      at = at + rest - 1 + 8
    elseif kind == 5 then
      at = at + rest - 1 + 4
    else
      return false
    end
  end
  return named and at == size
end

-- How much of a request by HTTP is JSON: all of it, or what a header says; nil when that is unclear.
local function length_of_json(headers, size)
  local name = "inference-header-content-length"
  local stated = headers:get(name)
  if stated == nil then return size end
  if headers:getNumValues(name) ~= 1 or not string.match(stated, "^%d%d?%d?%d?%d?%d?%d?%d?$") then
    return nil
  end
  return tonumber(stated) <= size and tonumber(stated) or nil
end

local function http_is_allowed(headers, body)
  local size = body and body:length() or 0
  local described = length_of_json(headers, size)
  return described and (headers:get("content-encoding") or "identity") == "identity" and
    (described == 0 or is_plausible_json(body:getBytes(0, described)))
end

local function grpc_is_allowed(_, body)
  local size = body and body:length() or 0
  if size < 5 then return false end
  local head = body:getBytes(0, 5)
  local one, two, three, four = string.byte(head, 2, 5)
  local length = ((one * 256 + two) * 256 + three) * 256 + four
  -- One message that is not compressed.
  return string.byte(head, 1) == 0 and length == size - 5 and
    is_plausible(function(at, n) return body:getBytes(5 + at, n) end, length)
end

local GRPC = "/inference.GRPCInferenceService/Model"
local NAMES_A_MODEL = {
  [GRPC .. "Infer"] = true, [GRPC .. "Ready"] = true,
  [GRPC .. "Metadata"] = true, [GRPC .. "Config"] = true,
}

function envoy_on_request(handle)
  local path = string.match(handle:headers():get(":path"), "^[^?#]*")  -- as routes are matched
  local by_http = string.sub(path, -6) == "/infer"
  if not by_http and not NAMES_A_MODEL[path] then return end
  local body = handle:body()  -- waits for all of it; headers are asked for afterwards
  -- After an error in here Envoy would go on.
  local done, allowed = pcall(by_http and http_is_allowed or grpc_is_allowed, handle:headers(), body)
  if done and allowed then return end
  if by_http then
    handle:respond(
      {[":status"] = "400", ["content-type"] = "application/json"},
      '{"error":"request: expected one that is not compressed, of few tensors with sides from 1 to ' ..
        MAX_SIDE .. ', got another"}'
    )
  else
    handle:respond(
      {[":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "7",
       ["grpc-message"] = "expected the model " .. MODEL .. " and plausible tensors, got others or a hidden one"},
      ""
    )
  end
end
