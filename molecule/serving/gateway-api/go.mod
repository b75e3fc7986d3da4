// The Gateway API's CRDs are read out of this module's folder.
module mlserving.triton/molecule/gateway-api

go 1.24.0

require sigs.k8s.io/gateway-api v1.4.1
