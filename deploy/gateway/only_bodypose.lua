-- Lets requests of the model `@{name}` through, and of no other: over gRPC the name is in the body.
-- Every field of the message is looked at, since the last of several names is the one that counts.
-- A batch of 0 or of more images than any server takes is refused: Triton takes some of them for 1.

local MODEL = "@{name}"
local MAX_SIDE = 65535

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
      at = at + length
    else
      return false
    end
  end
  return at == size
end

-- Whether each "shape" of a request in JSON is plausible. Nobody but one who hides something writes
-- an ASCII letter as \u0073.
local function shapes_are_plausible(text)
  if string.find(text, "\\u00[4-7]") then return false end
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

-- Whether a ModelInferRequest names MODEL, and nothing else, and its tensors have plausible shapes;
-- `read(at, length)` gives its bytes.
local function is_plausible(read, size)
  local at, named = 0, false
  while at < size do
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

local function check_http(handle)
  local body = handle:body()
  local size = body and body:length() or 0
  local stated = tonumber(handle:headers():get("inference-header-content-length") or size) or size
  local described = math.min(stated, size)  -- what is behind it is the image itself
  if described > 0 and not shapes_are_plausible(body:getBytes(0, described)) then
    handle:respond(
      {[":status"] = "400", ["content-type"] = "application/json"},
      '{"error":"shape: expected sides from 1 to ' .. MAX_SIDE .. ', got another"}'
    )
  end
end

function envoy_on_request(handle)
  local path = handle:headers():get(":path")
  if string.sub(path, -6) == "/infer" then return check_http(handle) end
  if path ~= "/inference.GRPCInferenceService/ModelInfer" then return end
  local body = handle:body()
  local size = body and body:length() or 0
  local allowed = false
  if size >= 5 then
    local head = body:getBytes(0, 5)
    local one, two, three, four = string.byte(head, 2, 5)
    local length = ((one * 256 + two) * 256 + three) * 256 + four
    -- One message that is not compressed.
    if string.byte(head, 1) == 0 and length == size - 5 then
      allowed = is_plausible(function(at, n) return body:getBytes(5 + at, n) end, length)
    end
  end
  if not allowed then
    handle:respond(
      {[":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "7",
       ["grpc-message"] = "expected the model " .. MODEL .. " and plausible shapes, got others or a hidden one"},
      ""
    )
  end
end
