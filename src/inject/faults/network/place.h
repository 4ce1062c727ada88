#pragma once
// Where the packets of a network fault are met: on this host, or in the network namespace of a
// container.

#include "inject/fault.h"

namespace squall::inject {

// kind.bind(), in the namespace of the caller's container, else of the callee's when the callers
// are from outside. Then the details hold `network_namespace`. create() takes them from there.
// kUnsupported when members are in several namespaces, or when the mechanism works in ours only.
base::Result<model::FaultBinding> bind_in_place(const FaultKind& kind, const BindRequest& request);

}  // namespace squall::inject
