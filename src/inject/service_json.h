#pragma once
// A service of the system map as part of a binding, so that whoever undoes a fault can find the
// service's members without the map.

#include "base/json.h"
#include "base/result.h"
#include "model/system_map.h"

namespace squall::inject {

base::Json to_json(const model::Service& service);
base::Result<model::Service> service_from_json(const base::Json& json);

}  // namespace squall::inject
