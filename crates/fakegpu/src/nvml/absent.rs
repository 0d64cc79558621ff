//! What these GPUs cannot do, under names that tools look for when they start.

use super::Code;

macro_rules! not_supported {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() -> Code {
            Code::NOT_SUPPORTED
        }
    )*};
}

not_supported! {
    nvmlDeviceGetAccountingBufferSize
    nvmlDeviceGetAccountingMode
    nvmlDeviceGetAccountingPids
    nvmlDeviceGetAccountingStats
    nvmlDeviceGetApplicationsClock
    nvmlDeviceGetAttributes
    nvmlDeviceGetAutoBoostedClocksEnabled
    nvmlDeviceGetBoardId
    nvmlDeviceGetBoardPartNumber
    nvmlDeviceGetClock
    nvmlDeviceGetCurrPcieLinkGeneration
    nvmlDeviceGetCurrPcieLinkWidth
    nvmlDeviceGetCurrentClocksEventReasons
    nvmlDeviceGetCurrentClocksThrottleReasons
    nvmlDeviceGetDecoderUtilization
    nvmlDeviceGetDefaultApplicationsClock
    nvmlDeviceGetDetailedEccErrors
    nvmlDeviceGetDriverModel
    nvmlDeviceGetEncoderUtilization
    nvmlDeviceGetFieldValues
    nvmlDeviceGetGpuOperationMode
    nvmlDeviceGetGspFirmwareMode
    nvmlDeviceGetGspFirmwareVersion
    nvmlDeviceGetInforomImageVersion
    nvmlDeviceGetInforomVersion
    nvmlDeviceGetMaxPcieLinkGeneration
    nvmlDeviceGetMaxPcieLinkWidth
    nvmlDeviceGetMemoryBusWidth
    nvmlDeviceGetMemoryErrorCounter
    nvmlDeviceGetMultiGpuBoard
    nvmlDeviceGetNvLinkCapability
    nvmlDeviceGetNvLinkRemotePciInfo_v2
    nvmlDeviceGetNvLinkState
    nvmlDeviceGetNvLinkVersion
    nvmlDeviceGetPcieReplayCounter
    nvmlDeviceGetPcieThroughput
    nvmlDeviceGetPowerManagementDefaultLimit
    nvmlDeviceGetPowerManagementLimitConstraints
    nvmlDeviceGetPowerManagementMode
    nvmlDeviceGetPowerState
    nvmlDeviceGetProcessUtilization
    nvmlDeviceGetProcessesUtilizationInfo
    nvmlDeviceGetRetiredPages
    nvmlDeviceGetRowRemapperHistogram
    nvmlDeviceGetRunningProcessDetailList
    nvmlDeviceGetSamples
    nvmlDeviceGetSupportedClocksEventReasons
    nvmlDeviceGetSupportedGraphicsClocks
    nvmlDeviceGetSupportedMemoryClocks
    nvmlDeviceGetTemperatureThreshold
    nvmlDeviceGetTopologyCommonAncestor
    nvmlDeviceGetTotalEnergyConsumption
    nvmlDeviceGetViolationStatus
    nvmlDeviceSetMigMode
    nvmlDeviceSetPersistenceMode
    nvmlDeviceSetPowerManagementLimit
    nvmlGpmQueryDeviceSupport
    nvmlUnitGetCount
}
