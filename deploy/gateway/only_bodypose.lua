-- Lets requests of the model `bodypose` through, and of no other: over gRPC the name is in the body.
-- Every field of the message is looked at, since the last of several names is the one that counts.

local MODEL = "bodypose"

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

-- Whether a ModelInferRequest names MODEL, and nothing else; `read(at, length)` gives its bytes.
local function names_only_the_model(read, size)
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

function envoy_on_request(handle)
  if handle:headers():get(":path") ~= "/inference.GRPCInferenceService/ModelInfer" then return end
  local body = handle:body()
  local size = body and body:length() or 0
  local allowed = false
  if size >= 5 then
    local head = body:getBytes(0, 5)
    local one, two, three, four = string.byte(head, 2, 5)
    local length = ((one * 256 + two) * 256 + three) * 256 + four
    -- One message that is not compressed.
    if string.byte(head, 1) == 0 and length == size - 5 then
      allowed = names_only_the_model(function(at, n) return body:getBytes(5 + at, n) end, length)
    end
  end
  if not allowed then
    handle:respond(
      {[":status"] = "200", ["content-type"] = "application/grpc", ["grpc-status"] = "7",
       ["grpc-message"] = "model: expected " .. MODEL .. ", got another or a request that hides it"},
      ""
    )
  end
end
