#pragma once
// Running containers, asked of their engines by the Docker Engine API, which Podman speaks too.

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "host/host.h"

namespace squall::host {

// Where Docker and Podman listen, for root and for our user.
std::vector<std::string> default_engine_sockets();

// The containers of all engines whose socket exists. kPermission when one refuses us and no other
// answers: what is asked for may be there.
base::Result<std::vector<Container>> read_containers(const std::vector<std::string>& sockets);

// The answer of GET /containers/json: of what it lists, the containers that run or are paused.
base::Result<std::vector<Container>> parse_containers(std::string_view json);

// Does it fit all that the selector says? An image fits with or without its tag.
bool selects(const model::ContainerSelector& selector, const Container& container);

}  // namespace squall::host
